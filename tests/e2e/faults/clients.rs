//! Clients that put at random on kept connections, and record each put with its outcome.
//!
//! They end when they are told to, or with their server. A seed decides the puts of each client, not how the
//! clients interleave. The outcomes are judged in `model`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::events;
use super::model::{Event, NEVER, Outcome, Put};
use crate::support::{Answer, Connection, DEADLINE, Post};

/// More puts than a client makes before it is told to end.
const MAX_PUTS: usize = 100_000;

/// How long to wait for outcomes. A cluster of nats-servers on a busy machine may take more than a minute to elect a
/// leader.
const OUTCOME_DEADLINE: Duration = DEADLINE.saturating_mul(3);

/// How long a client waits after a put was refused, which is much less than `Retry-After` asks for. Clients that put
/// again at once would take the processor from the servers that are to recover.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// The number of puts after which a client moves on to the next shared key, so that there is always a key with
/// few puts.
const PUTS_OF_A_KEY: usize = 12;

/// One of this many puts of shared keys has an earlier key.
const BEFORE_EVERY: u32 = 4;

/// An impatient client does not wait for the response to one of this many puts.
const IMPATIENT_EVERY: u32 = 40;

/// The most times a test yields before its next step: a fraction of a millisecond on an idle machine, and many
/// on a busy one.
const MAX_YIELDS: usize = 500;

/// The logical clock of a history: each reading is a new number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clock(Arc<AtomicU64>);

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// The puts of clients, and the number of clients.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// The prefix of all keys.
    pub(crate) name: String,
    pub(crate) clients: usize,
    /// The number of keys that the clients share at a time.
    pub(crate) shared_keys: usize,
    /// One of this many puts has a shared key. The others have keys of one client.
    pub(crate) shared_every: u32,
    /// Whether clients sometimes disconnect before the response, and reconnect.
    pub(crate) impatient: bool,
}

impl Load {
    /// Mostly keys of their own, so that many are acknowledged.
    pub(crate) fn of_own_keys(name: &str, clients: usize) -> Self {
        Self {
            name: name.to_owned(),
            clients,
            shared_keys: 4,
            shared_every: 4,
            impatient: false,
        }
    }

    /// Few keys, so that the clients conflict.
    pub(crate) fn of_few_keys(name: &str, clients: usize, shared_keys: usize) -> Self {
        Self {
            shared_keys,
            shared_every: 1,
            impatient: true,
            ..Self::of_own_keys(name, clients)
        }
    }
}

/// A put that is repeated, since its outcome is unknown.
pub(crate) type Unresolved = (String, Event);

/// The clients of one server.
pub(crate) struct Clients {
    clients: Vec<JoinHandle<Vec<Put>>>,
    outcomes: Receiver<Outcome>,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Clients {
    pub(crate) fn start(
        address: SocketAddr,
        load: &Load,
        clock: &Clock,
        unresolved: Vec<Unresolved>,
        rng: &mut Rng,
    ) -> Self {
        let (sender, outcomes) = mpsc::channel();
        let (sent, stop) = (Arc::default(), Arc::default());
        let mut again = vec![Vec::new(); load.clients];
        for (number, put) in unresolved.into_iter().enumerate() {
            again[number % load.clients].push(put);
        }
        let clients = again.into_iter().enumerate().map(|(number, again)| {
            let client = Client {
                address,
                load: load.clone(),
                number,
                clock: clock.clone(),
                again,
                rng: rng.fork(),
                outcomes: sender.clone(),
                sent: Arc::clone(&sent),
                stop: Arc::clone(&stop),
            };
            thread::spawn(|| client.play())
        });
        Self {
            clients: clients.collect(),
            outcomes,
            sent,
            stop,
        }
    }

    /// Waits for `count` more responses.
    #[track_caller]
    pub(crate) fn wait_for_answers(&self, count: usize) {
        self.wait_for(count, |outcome| outcome != Outcome::Unanswered);
    }

    /// Waits for `count` more puts with this outcome, ignoring others.
    #[track_caller]
    pub(crate) fn wait_for_outcomes(&self, count: usize, wanted: Outcome) {
        self.wait_for(count, |outcome| outcome == wanted);
    }

    #[track_caller]
    fn wait_for(&self, count: usize, is_wanted: impl Fn(Outcome) -> bool) {
        let start = Instant::now();
        let mut missing = count;
        while missing > 0 {
            let left = OUTCOME_DEADLINE.saturating_sub(start.elapsed());
            let outcome = self.outcomes.recv_timeout(left);
            let outcome =
                outcome.unwrap_or_else(|error| panic!("{missing} of {count} are missing: {error}"));
            missing -= usize::from(is_wanted(outcome));
        }
    }

    /// Lets the clients run for a while, so that the next step does not always follow a response at once.
    pub(crate) fn run_for_a_while(rng: &mut Rng) {
        for _ in 0..rng.usize(..MAX_YIELDS) {
            thread::yield_now();
        }
    }

    /// Drops the outcomes so far that were not waited for.
    pub(crate) fn forget_outcomes(&self) {
        while self.outcomes.try_recv().is_ok() {}
    }

    /// Waits until `count` puts were sent in all, answered or not.
    #[track_caller]
    pub(crate) fn wait_for_sent(&self, count: usize) {
        let start = Instant::now();
        while self.sent.load(Ordering::SeqCst) < count {
            assert!(start.elapsed() < DEADLINE, "they are not sent");
            thread::yield_now();
        }
    }

    /// Ends the clients after their last responses, and returns their puts.
    pub(crate) fn finish(self) -> Vec<Put> {
        self.stop.store(true, Ordering::SeqCst);
        let puts = self.clients.into_iter().flat_map(|client| {
            let puts = client.join();
            puts.expect("each answer was one of the protocol, and in time")
        });
        puts.collect()
    }
}

struct Client {
    address: SocketAddr,
    load: Load,
    number: usize,
    clock: Clock,
    again: Vec<Unresolved>,
    rng: Rng,
    outcomes: Sender<Outcome>,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Client {
    fn play(mut self) -> Vec<Put> {
        let mut puts: Vec<Put> = Vec::new();
        let Some(mut connection) = Connection::try_open(self.address) else {
            return puts;
        };
        while puts.len() < MAX_PUTS && !self.stop.load(Ordering::SeqCst) {
            let (key, event) = self.next(puts.len());
            let leaves = self.load.impatient && self.rng.u32(..IMPATIENT_EVERY) == 0;
            let start = self.clock.now();
            connection.try_send(Post::put(&key, &event.text).bytes());
            self.sent.fetch_add(1, Ordering::SeqCst);
            let outcome = match leaves {
                true => Outcome::Unanswered,
                false => outcome(connection.answer_or_end()),
            };
            let end = match outcome {
                Outcome::Unknown | Outcome::Unanswered => NEVER,
                Outcome::Acknowledged | Outcome::Conflict | Outcome::Refused => self.clock.now(),
            };
            // The test may no longer receive outcomes.
            let _ = self.outcomes.send(outcome);
            if outcome == Outcome::Refused {
                // Never unparked.
                thread::park_timeout(REFUSED_PAUSE);
            }
            if outcome == Outcome::Unknown && self.rng.bool() {
                self.again.push((key.clone(), event.clone()));
            }
            puts.push(Put {
                key,
                event,
                start,
                end,
                outcome,
            });
            if outcome == Outcome::Unanswered {
                match leaves.then(|| Connection::try_open(self.address)).flatten() {
                    Some(other) => connection = other,
                    None => break,
                }
            }
        }
        puts
    }

    /// The next put, after `puts` others.
    fn next(&mut self, puts: usize) -> (String, Event) {
        let Load {
            name,
            shared_keys,
            shared_every,
            ..
        } = &self.load;
        if let Some((key, event)) = self.again.pop() {
            let event = events::again(&event, &mut self.rng);
            return (key, event);
        }
        if self.rng.u32(..*shared_every) != 0 {
            let key = format!("{name}-{:02}-{puts:05}", self.number);
            return (key, events::any(&mut self.rng));
        }
        let newest = puts / PUTS_OF_A_KEY + self.rng.usize(..*shared_keys);
        let key = match self.rng.u32(..BEFORE_EVERY) {
            0 => self.rng.usize(..=newest),
            _ => newest,
        };
        (
            format!("{name}-{key:05}"),
            events::likely(key, &mut self.rng),
        )
    }
}

/// The outcome of a put, by its response.
fn outcome(answer: Option<Answer>) -> Outcome {
    let Some(answer) = answer else {
        return Outcome::Unanswered;
    };
    if answer.status == 201 {
        answer.assert_created();
        return Outcome::Acknowledged;
    }
    let problem = answer.assert_problem(answer.status);
    match (answer.status, problem["stored"].as_str()) {
        (409, Some("no")) => Outcome::Conflict,
        (408 | 422 | 503, Some("no")) => Outcome::Refused,
        (500 | 504, Some("unknown")) => Outcome::Unknown,
        _ => panic!("not what a put is answered: {problem}"),
    }
}
