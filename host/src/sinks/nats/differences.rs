//! The subjects under which replicas of a stream hold different messages, in bounded memory.
//!
//! Messages of all replicas are added in the order of each. A subject is kept until all replicas are known to hold
//! the same under it. Where too many are kept, a random half of all subjects is left out from then on, so that those
//! that are kept in the end are a sample, and their number tells that of all.

use std::collections::HashMap;

use super::url::NatsUrl;

/// How many subjects are kept at the most, with what each replica holds under them: some 30 MB.
const MAX_SUBJECTS: usize = 100_000;

/// How many keys that differ are listed: as many as somebody reads, or gives to a script.
const MAX_LISTED: usize = 1000;

/// What a replica holds under a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// An event with this digest.
    Intact([u8; blake3::OUT_LEN]),
    Damaged,
    Foreign,
}

/// The subjects that are not known to be the same on all replicas, and what each holds.
#[derive(Debug)]
pub(super) struct Differences {
    replicas: usize,
    contents: HashMap<String, Box<[Option<Content>]>>,
    /// How often half of the subjects was left out: those are kept whose hash begins with as many zero bits.
    halvings: u32,
}

impl Differences {
    /// None, of so many replicas.
    pub(super) fn new(replicas: usize) -> Self {
        Self {
            replicas,
            contents: HashMap::new(),
            halvings: 0,
        }
    }

    /// Adds the message that a replica holds under a subject.
    pub(super) fn add(&mut self, replica: usize, subject: String, content: Content) {
        if !is_sampled(&subject, self.halvings) {
            return;
        }
        if let Some(contents) = self.contents.get_mut(&subject) {
            contents[replica] = Some(content);
            if contents.iter().all(|other| *other == Some(content)) {
                self.contents.remove(&subject);
            }
            return;
        }
        let mut contents = vec![None; self.replicas].into_boxed_slice();
        contents[replica] = Some(content);
        if self.replicas > 1 {
            self.contents.insert(subject, contents);
        }
        while self.contents.len() > MAX_SUBJECTS {
            self.halvings += 1;
            let halvings = self.halvings;
            self.contents
                .retain(|subject, _| is_sampled(subject, halvings));
        }
    }

    /// Adds a message that was found later, if it is under one of the subjects that are kept.
    pub(super) fn add_known(&mut self, replica: usize, subject: String, content: Content) {
        if self.contents.contains_key(&subject) {
            self.add(replica, subject, content);
        }
    }

    /// Whether a replica holds something under each of the subjects.
    pub(super) fn has_all(&self, replica: usize) -> bool {
        let mut contents = self.contents.values();
        contents.all(|contents| contents[replica].is_some())
    }

    /// A line for each subject, up to a limit, and one that tells how many there are beyond it.
    pub(super) fn lines(&self, names: &[&str], url: &NatsUrl) -> Vec<String> {
        let mut subjects: Vec<_> = self.contents.iter().collect();
        subjects.sort_by_key(|(subject, _)| *subject);
        let (count, listed) = (subjects.len(), subjects.iter().take(MAX_LISTED));
        let mut lines: Vec<String> = listed
            .map(|(subject, contents)| line(subject, contents, names, url))
            .collect();
        if self.halvings > 0 {
            lines.push(match (count as u64).checked_shl(self.halvings) {
                // That many subjects were kept on the way can only mean that replicas differ.
                Some(0) | None => format!(
                    "the replicas were not compared: at one time they differed under more than {MAX_SUBJECTS} keys"
                ),
                Some(all) => {
                    format!("the replicas differ under about {all} keys; those listed are a sample")
                }
            });
        } else if count > MAX_LISTED {
            let more = count - MAX_LISTED;
            lines.push(format!("the replicas differ under {more} more keys"));
        }
        lines
    }
}

/// Whether the hash of a subject begins with so many zero bits, as that of one of two to that power does.
fn is_sampled(subject: &str, halvings: u32) -> bool {
    halvings == 0 || {
        let hash = blake3::hash(subject.as_bytes());
        let start = hash.as_bytes().first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(start).leading_zeros() >= halvings
    }
}

/// The difference under one subject.
fn line(subject: &str, contents: &[Option<Content>], names: &[&str], url: &NatsUrl) -> String {
    let with = |is_meant: fn(&Option<Content>) -> bool| {
        let pairs = names.iter().zip(contents);
        let meant = pairs.filter(|(_, content)| is_meant(content));
        let names: Vec<String> = meant.map(|(name, _)| format!("{name:?}")).collect();
        names.join(" and ")
    };
    let what = match url.prefix.key(subject) {
        Some(key) => format!("the key {key:?}"),
        None => format!("the subject {subject:?}"),
    };
    let lacking = with(Option::is_none);
    let damaged = with(|content| *content == Some(Content::Damaged));
    match (lacking.as_str(), damaged.as_str()) {
        ("", "") => format!("{what} holds different events on {}", with(Option::is_some)),
        ("", damaged) => format!("{what} holds a damaged event on {damaged} alone"),
        (lacking, _) => {
            let there = with(Option::is_some);
            format!("{what} is missing on {lacking}, and present on {there}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, Differences, MAX_LISTED, MAX_SUBJECTS};
    use crate::sinks::nats::url::NatsUrl;

    fn url() -> NatsUrl {
        "nats://localhost/events".parse().expect("is one")
    }

    fn subject(number: usize) -> String {
        format!("alldata.key{number:07}")
    }

    const NAMES: [&str; 3] = ["one", "two", "three"];

    /// As they are read: one message of each in turn, and what is missing has no turn.
    fn read(count: usize, is_missing_on_two: impl Fn(usize) -> bool) -> Differences {
        let mut differences = Differences::new(NAMES.len());
        let mut two = (0..count).filter(|number| !is_missing_on_two(*number));
        for number in 0..count {
            differences.add(0, subject(number), Content::Foreign);
            if let Some(number) = two.next() {
                differences.add(1, subject(number), Content::Foreign);
            }
            differences.add(2, subject(number), Content::Foreign);
            assert!(differences.contents.len() <= MAX_SUBJECTS);
        }
        differences
    }

    #[test]
    fn equal_replicas_take_no_memory() {
        let differences = read(1000, |_| false);
        assert!(differences.contents.is_empty());
        assert_eq!(differences.lines(&NAMES, &url()), [] as [&str; 0]);
    }

    #[test]
    fn few_differences_are_all_listed() {
        let differences = read(10_000, |number| number % 1000 == 7);
        let lines = differences.lines(&NAMES, &url());
        assert_eq!(lines.len(), 10);
        let first =
            "the key \"key0000007\" is missing on \"two\", and present on \"one\" and \"three\"";
        assert_eq!(lines[0], first);
    }

    #[test]
    fn differences_beyond_those_listed_are_counted() {
        let lines = read(MAX_LISTED + 5, |_| true).lines(&NAMES, &url());
        assert_eq!(lines.len(), MAX_LISTED + 1);
        assert_eq!(lines[MAX_LISTED], "the replicas differ under 5 more keys");
    }

    /// The first third is missing on one, so that all of its messages come too early there.
    #[test]
    fn many_differences_are_kept_as_a_sample() {
        let (count, missing) = (6 * MAX_SUBJECTS, 2 * MAX_SUBJECTS);
        let differences = read(count, |number| number < missing);
        let lines = differences.lines(&NAMES, &url());
        assert_eq!(lines.len(), MAX_LISTED + 1);
        let (last, listed) = lines.split_last().expect("has lines");
        for line in listed {
            assert!(line.contains("is missing on \"two\""), "{line}");
            let key = line.split('"').nth(1).expect("has a key");
            assert!(*key < *format!("key{missing:07}"), "{line}");
        }
        let words = last
            .split(' ')
            .filter_map(|word| word.parse::<usize>().ok());
        let told = words.sum::<usize>();
        let (least, most) = (missing - missing / 20, missing + missing / 20);
        assert!((least..=most).contains(&told), "{last}");
    }

    #[test]
    fn overflow_is_never_taken_for_agreement() {
        let mut differences = Differences::new(2);
        for number in 0..=MAX_SUBJECTS {
            differences.add(0, subject(number), Content::Foreign);
        }
        for number in 0..=MAX_SUBJECTS {
            differences.add(1, subject(number), Content::Foreign);
        }
        let lines = differences.lines(&NAMES[..2], &url());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("were not compared"), "{lines:?}");
    }
}
