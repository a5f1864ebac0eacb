//! Compares the store with the acknowledged puts: all are there, unchanged, and nothing else is.
//!
//! Reads the store with the library, after the server has ended. Each event is compared with the put of its
//! key, not only counted.

use std::collections::BTreeSet;
use std::path::Path;

use alldata_peer_server_http::store::{Event, StoreReader};
use anyhow::Result;

use crate::soak::ledger::{self, Ledger, Unacknowledged};

/// The number of keys that are listed for each kind of fault.
const MAX_KEYS: usize = 5;

/// The puts of the load, compared with the store.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Puts that were answered with 201.
    pub(crate) acknowledged: u64,
    /// Events in the store.
    pub(crate) stored: u64,
    /// Acknowledged, and not in the store.
    pub(crate) lost: Faults,
    /// In the store with an event that was not put under this key.
    pub(crate) changed: Faults,
    /// In the store under a key that nothing was put under.
    pub(crate) foreign: Faults,
    /// Puts whose connection broke before the response.
    pub(crate) connection_lost: u64,
    pub(crate) not_answered: u64,
    /// Puts with another status than 201.
    pub(crate) other_status: u64,
    /// The number of these three kinds in the store, which is allowed.
    pub(crate) unacknowledged_stored: u64,
}

/// The number of one kind, with its first keys.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) count: u64,
    pub(crate) keys: Vec<String>,
}

impl Faults {
    fn add(&mut self, key: String) {
        self.count += 1;
        if self.keys.len() < MAX_KEYS {
            self.keys.push(key);
        }
    }
}

/// Compares the store at `path` with the load's puts and with `others`, keys that were acknowledged in
/// addition.
pub(crate) fn audit(path: &Path, ledgers: &[Ledger], others: &BTreeSet<String>) -> Result<Audit> {
    let mut auditor = Auditor::new(ledgers, others);
    // The reader returns each key once, or fails.
    StoreReader::open(path)?.visit(None, None, |event| {
        auditor.see(event);
        anyhow::Ok(())
    })?;
    Ok(auditor.finish())
}

struct Auditor<'a> {
    ledgers: &'a [Ledger],
    others: BTreeSet<&'a str>,
    /// For each connection and each of its puts, whether it was found: a byte for each.
    seen: Vec<Vec<bool>>,
    audit: Audit,
}

impl<'a> Auditor<'a> {
    fn new(ledgers: &'a [Ledger], others: &'a BTreeSet<String>) -> Self {
        let seen = ledgers
            .iter()
            .map(|ledger| vec![false; ledger.next() as usize]);
        let mut audit = Audit {
            acknowledged: ledgers.iter().map(Ledger::acknowledged).sum(),
            ..Audit::default()
        };
        for reason in ledgers.iter().flat_map(Ledger::unacknowledged) {
            *match reason {
                Unacknowledged::ConnectionLost => &mut audit.connection_lost,
                Unacknowledged::NotAnswered => &mut audit.not_answered,
                Unacknowledged::Other(_) => &mut audit.other_status,
            } += 1;
        }
        Self {
            ledgers,
            others: others.iter().map(String::as_str).collect(),
            seen: seen.collect(),
            audit,
        }
    }

    fn see(&mut self, event: Event) {
        self.audit.stored += 1;
        if self.others.remove(event.key.as_str()) {
            return;
        }
        let Some(number) = ledger::number_of(&event.key) else {
            return self.audit.foreign.add(event.key);
        };
        let (connection, put) = ledger::of_number(number);
        let Some(ledger) = self.ledgers.get(connection).filter(|it| it.has(put)) else {
            return self.audit.foreign.add(event.key);
        };
        self.seen[connection][put as usize] = true;
        if !ledger.is_acknowledged(put) {
            self.audit.unacknowledged_stored += 1;
        }
        if event.event != ledger::event(number) {
            self.audit.changed.add(event.key);
        }
    }

    fn finish(mut self) -> Audit {
        for (connection, (ledger, seen)) in self.ledgers.iter().zip(&self.seen).enumerate() {
            let missing = (0..).zip(seen).filter(|(_, seen)| !**seen);
            for (put, _) in missing.filter(|(put, _)| ledger.is_acknowledged(*put)) {
                let number = ledger::number(connection, put);
                self.audit.lost.add(ledger::key(number));
            }
        }
        for key in self.others {
            self.audit.lost.add(key.to_owned());
        }
        self.audit
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use alldata_peer_server_http::store::Event;

    use super::{Audit, Auditor};
    use crate::soak::ledger::{Ledger, Unacknowledged, event, key, number};

    /// Two puts on connection 0, then one without a response; one further key.
    fn audit(events: &[(String, String)]) -> Audit {
        let mut ledger = Ledger::default();
        ledger.add(Ok(()));
        ledger.add(Ok(()));
        ledger.add(Err(Unacknowledged::ConnectionLost));
        let (ledgers, others) = ([ledger], BTreeSet::from(["beside".to_owned()]));
        let mut auditor = Auditor::new(&ledgers, &others);
        for (key, event) in events.iter().cloned() {
            auditor.see(Event { key, event });
        }
        auditor.finish()
    }

    fn put(put: u64) -> (String, String) {
        let number = number(0, put);
        (key(number), event(number))
    }

    fn beside() -> (String, String) {
        ("beside".to_owned(), "1".to_owned())
    }

    #[test]
    fn unanswered_put_may_be_stored_or_not() {
        let without = audit(&[put(0), put(1), beside()]);
        let with = audit(&[put(0), put(1), put(2), beside()]);
        for (audit, stored) in [(without, 0), (with, 1)] {
            let faults = [&audit.lost, &audit.changed, &audit.foreign];
            assert_eq!(faults.map(|faults| faults.count), [0; 3]);
            assert_eq!((audit.acknowledged, audit.connection_lost), (2, 1));
            assert_eq!(audit.unacknowledged_stored, stored);
        }
    }

    #[test]
    fn missing_acknowledged_put_is_lost() {
        let found = audit(&[put(0), put(2), beside()]);
        assert_eq!((found.lost.count, found.lost.keys), (1, vec![put(1).0]));
        let found = audit(&[put(0), put(1)]);
        assert_eq!(found.lost.keys, ["beside"]);
    }

    #[test]
    fn stored_event_equals_its_put() {
        let (changed, stranger) = ((put(1).0, "1".to_owned()), put(3));
        let found = audit(&[put(0), changed, stranger.clone(), beside()]);
        assert_eq!((found.lost.count, found.stored), (0, 4));
        assert_eq!(found.changed.keys, [put(1).0]);
        assert_eq!(found.foreign.keys, [stranger.0]);
    }
}
