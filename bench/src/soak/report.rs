//! The results of a soak test, as tables in Markdown.

use crate::report::table;
use crate::results::{CONNECTIONS, EVENT_BYTES};
use crate::soak::Soaked;
use crate::soak::flatness::{Change, Measure, Verdict, WARM_UP_SECONDS};
use crate::soak::load::RESPONSE_DEADLINE;

/// The text of a cell without a measurement.
const NOTHING: &str = "–";

/// The events of the test, the outcomes of the puts, and the flatness.
pub(crate) fn markdown(soaked: &Soaked) -> String {
    let load = format!(
        "{CONNECTIONS} connections, events of {} bytes, seed {}",
        EVENT_BYTES[0], soaked.seed
    );
    let header = ["what", ""].map(String::from);
    let rows = facts(soaked).into_iter().chain(faults(soaked));
    let rows = rows.map(|(what, value)| vec![what, value]);
    let facts = table(&header, rows);
    let verdicts = Measure::ALL.map(|measure| Verdict::of(measure, &soaked.samples));
    format!("## Soak\n\n{load}\n\n{facts}\n{}", flatness(&verdicts))
}

fn facts(soaked: &Soaked) -> Vec<(String, String)> {
    let audit = &soaked.audit;
    let outages = soaked.kills.iter().map(|kill| kill.outage_seconds * 1e3);
    let last = soaked.samples.last();
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let wal = soaked.samples.iter().map(|sample| sample.wal).max();
    let reached = audit.acknowledged as f64 / soaked.seconds;
    [
        ("time under load, s", format!("{:.0}", soaked.seconds)),
        ("highest rate, puts/s", format!("{:.0}", soaked.highest)),
        ("half of it, puts/s", format!("{:.0}", soaked.rate)),
        ("201s per second, kills included", format!("{reached:.0}")),
        ("SIGKILLs", soaked.kills.len().to_string()),
        (
            "longest time from a kill to the next 201, ms",
            format!("{:.0}", outages.fold(0.0, f64::max)),
        ),
        ("puts with 201", audit.acknowledged.to_string()),
        ("events in the store", audit.stored.to_string()),
        (
            "database at the end, MB",
            last.map_or(NOTHING.to_owned(), |last| megabytes(last.database)),
        ),
        (
            "largest write-ahead log, MB",
            wal.map_or(NOTHING.to_owned(), megabytes),
        ),
    ]
    .map(|(what, value)| (what.to_owned(), value))
    .into()
}

fn faults(soaked: &Soaked) -> Vec<(String, String)> {
    let audit = &soaked.audit;
    let deadline = RESPONSE_DEADLINE.as_secs();
    let mut rows: Vec<(String, String)> = [
        ("**lost**: 201, and not in the store", audit.lost.count),
        (
            "changed: in the store as another event",
            audit.changed.count,
        ),
        ("in the store and never put", audit.foreign.count),
        ("connection lost before the answer", audit.connection_lost),
        ("answered with another status", audit.other_status),
        (
            "these three: stored nevertheless",
            audit.unacknowledged_stored,
        ),
    ]
    .map(|(what, count)| (what.to_owned(), count.to_string()))
    .into();
    let not_answered = format!("not answered within {deadline} s");
    rows.insert(4, (not_answered, audit.not_answered.to_string()));
    rows.push(("`alldata-peer verify`".to_owned(), soaked.verified.clone()));
    rows
}

fn flatness(verdicts: &[Verdict]) -> String {
    let header = [
        "measure",
        "after the warm-up",
        "within a life, first quarter → last",
        "same age, first life → last",
        "verdict",
    ];
    let rows = verdicts.iter().map(|verdict| {
        let values = verdict.values;
        let verdict_text = match verdict.is_flat() {
            Some(true) => "flat",
            Some(false) => "grows",
            None => "too short to say",
        };
        vec![
            verdict.measure.name().to_owned(),
            values.map_or(NOTHING.to_owned(), |values| format!("{values:.1}")),
            change(verdict.within, "in"),
            change(verdict.across, "up to"),
            verdict_text.to_owned(),
        ]
    });
    let table = table(&header.map(String::from), rows);
    format!(
        "{table}\nMedians, with the least and the greatest value in parentheses; a life counts from \
         {WARM_UP_SECONDS:.0} s on. Within a life: the one that changed most.\n"
    )
}

fn change(change: Option<Change>, preposition: &str) -> String {
    change.map_or(NOTHING.to_owned(), |Change { life, from, to }| {
        format!("{from:.1} → {to:.1} ({preposition} life {life})")
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::markdown;
    use crate::soak::Soaked;
    use crate::soak::audit::{Audit, Faults};
    use crate::soak::samples::Kill;
    use crate::soak::samples::tests::sample;

    pub(crate) fn soaked(lost: u64) -> Soaked {
        let keys = vec!["key1".to_owned(); lost as usize];
        Soaked {
            seed: 7,
            highest: 2000.0,
            rate: 1000.0,
            seconds: 60.0,
            samples: (1..60)
                .map(|second| sample(1, second as f64, 30_000_000, 70))
                .collect(),
            kills: vec![Kill {
                seconds: 59.5,
                outage_seconds: 0.04,
            }],
            audit: Audit {
                acknowledged: 54_000,
                stored: 54_002,
                lost: Faults { count: lost, keys },
                ..Audit::default()
            },
            verified: "54002 events, all as they were put".to_owned(),
            troubles: Vec::new(),
        }
    }

    #[test]
    fn each_event_is_in_its_row() {
        let text = markdown(&soaked(0));
        for row in [
            "| 201s per second, kills included | 900 |",
            "| longest time from a kill to the next 201, ms | 40 |",
            "| **lost**: 201, and not in the store | 0 |",
            "| threads | 5.0 (5.0–5.0) | 5.0 → 5.0 (in life 1) | – | flat |",
        ] {
            assert!(text.contains(row), "{row}: {text}");
        }
    }

    #[test]
    fn loss_is_an_error() {
        soaked(0).judge().expect("nothing is lost");
        let error = soaked(2).judge().expect_err("something is lost");
        let text = "2 are acknowledged and not in the store, such as key1, key1";
        assert_eq!(error.to_string(), text);
        let mut troubled = soaked(0);
        troubled.troubles.push("it does not end".to_owned());
        assert!(troubled.judge().is_err());
    }
}
