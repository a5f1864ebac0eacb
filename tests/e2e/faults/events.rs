//! Events for histories. The table here defines which are the same, independently of the code under test.

use std::iter;
use std::sync::{Arc, LazyLock};

use fastrand::Rng;

use super::model::Event;

/// Different events, each in several spellings of the same value. Without line breaks, which an export replaces
/// by spaces.
const SPELLINGS: [&[&str]; 12] = [
    &["1", "1.0", "10e-1", "0.1E1"],
    &["-1", "-1.00"],
    &[
        r#"{"a":1,"b":[true,null]}"#,
        r#"{ "b" : [ true , null ] , "\u0061" : 1e0 }"#,
        r#"{"a":2,"b":[true,null],"a":1.0}"#,
    ],
    &[r#"{"a":1,"b":[null,true]}"#],
    &["12345678901234567890", "1.2345678901234567890e19"],
    &["12345678901234567891"],
    &[r#""é""#, r#""\u00e9""#, r#""\u00E9""#],
    &[r#""e\u0301""#],
    &["[[],{}]", "[ [ ] ,\t{ } ]"],
    &["null"],
    &[r#""""#],
    &[r#""1""#],
];

/// The number of characters of a large event: more bytes than the writer copies to compare.
const LARGE_CHARS: usize = 40_000;

/// One of this many events is large.
const LARGE_EVERY: u32 = 100;

/// All events: the index is the value.
static EVENTS: LazyLock<Vec<Vec<Arc<str>>>> = LazyLock::new(|| {
    let small = SPELLINGS
        .iter()
        .map(|texts| texts.iter().map(|text| Arc::from(*text)).collect());
    let large = ["é", "è"].map(|char| {
        let text = char.repeat(LARGE_CHARS);
        vec![
            format!("[\"{text}\"]").into(),
            format!("[ \"{text}\" ]").into(),
        ]
    });
    small.chain(large).collect()
});

/// A random event.
pub(crate) fn any(rng: &mut Rng) -> Event {
    let small = SPELLINGS.len();
    match rng.u32(..LARGE_EVERY) {
        0 => spelled(rng.usize(small..EVENTS.len()), rng),
        _ => spelled(rng.usize(..small), rng),
    }
}

/// A random event for the key of this number: every other time the same as others put under it.
pub(crate) fn likely(key: usize, rng: &mut Rng) -> Event {
    match rng.bool() {
        true => spelled(key % EVENTS.len(), rng),
        false => any(rng),
    }
}

/// The same event, possibly in another spelling.
pub(crate) fn again(event: &Event, rng: &mut Rng) -> Event {
    spelled(event.value, rng)
}

fn spelled(value: usize, rng: &mut Rng) -> Event {
    let texts = &EVENTS[value];
    Event {
        value,
        text: Arc::clone(&texts[rng.usize(..texts.len())]),
    }
}

/// Checks the table with another JSON parser, for the numbers that it reads exactly.
#[test]
fn each_spelling_is_json_and_stands_in_the_table_once() {
    let all: Vec<&Arc<str>> = EVENTS.iter().flatten().collect();
    for (index, text) in all.iter().enumerate() {
        serde_json::from_str::<serde::de::IgnoredAny>(text).expect("is JSON");
        assert!(!text.contains('\n'), "{text}");
        assert!(!all[..index].contains(text), "{text}");
    }
    let mut rng = Rng::with_seed(1);
    let values = iter::repeat_with(|| any(&mut rng).value).take(10_000);
    assert_eq!(
        values.collect::<std::collections::BTreeSet<_>>().len(),
        EVENTS.len()
    );
}
