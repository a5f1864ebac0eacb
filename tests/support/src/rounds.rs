//! Rounds of a fault: their number, their seeds, and the sum of their results.
//!
//! `cargo test` runs a few rounds of each fault, `make faults` more, by the variables below.

use std::env;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str::FromStr;
use std::time::{Duration, Instant};

use fastrand::Rng;

/// The number of rounds of each fault.
const ROUNDS: &str = "FAULTS_ROUNDS";

/// The number of seconds after which no further round of a fault begins.
const SECONDS: &str = "FAULTS_SECONDS";

/// The seed of the first round, to repeat it; each later round has the next number.
const SEED: &str = "FAULTS_SEED";

/// Whether rounds continue after a failed one, to count the failures: `1`.
const KEEP_GOING: &str = "FAULTS_KEEP_GOING";

/// The rounds of one fault.
pub struct Rounds {
    fault: &'static str,
    rounds: u64,
    time: Duration,
    seed: u64,
}

/// The outcomes of the puts of a round.
#[derive(Debug, Default, Clone, Copy)]
pub struct RoundCounts {
    /// Answered with 201. If one was not found once and unchanged, the round has failed.
    pub acknowledged: u64,
    /// Answered with `"stored":"no"`.
    pub refused: u64,
    /// Not answered, or answered with `"stored":"unknown"`.
    pub unknown: u64,
    /// Acknowledged, but not found again, if the fault allows that.
    pub lost: u64,
    /// The longest time from a fault until puts were acknowledged again, if it was measured.
    pub longest_wait: Duration,
}

impl AddAssign for RoundCounts {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.lost += other.lost;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
    }
}

impl Rounds {
    /// `usual` rounds of a fault, unless the environment sets another number.
    pub fn of(fault: &'static str, usual: u64) -> Self {
        Self {
            fault,
            rounds: asked(ROUNDS).unwrap_or(usual),
            time: asked(SECONDS).map_or(Duration::MAX, Duration::from_secs),
            // Small enough to be typed.
            seed: asked(SEED).unwrap_or_else(|| fastrand::u64(..1_000_000_000)),
        }
    }

    /// Runs one round after the other, and prints a summary. A failed round prints the command that repeats it.
    pub fn play(self, mut round: impl FnMut(&mut Rng) -> RoundCounts) {
        let (start, mut played, mut failed) = (Instant::now(), 0, 0);
        let mut counts = RoundCounts::default();
        while played < self.rounds && (played == 0 || start.elapsed() < self.time) {
            let seed = self.seed + played;
            let outcome = catch_unwind(AssertUnwindSafe(|| round(&mut Rng::with_seed(seed))));
            played += 1;
            match outcome {
                Ok(outcome) => counts += outcome,
                Err(panic) => {
                    let fault = self.fault;
                    tell(&format!(
                        "{fault}: again with make faults FAULT={fault} ROUNDS=1 SEED={seed}"
                    ));
                    failed += 1;
                    if asked(KEEP_GOING) != Some(1) {
                        resume_unwind(panic);
                    }
                }
            }
        }
        tell(&self.summary(played, failed, start.elapsed(), counts));
        assert_eq!(failed, 0, "rounds of {} have failed", self.fault);
    }

    fn summary(&self, played: u64, failed: u64, time: Duration, counts: RoundCounts) -> String {
        let mut summary = format!(
            "{}: {played} rounds from seed {} in {} s: {} acknowledged, {} refused, {} unknown, {} lost",
            self.fault,
            self.seed,
            time.as_secs(),
            counts.acknowledged,
            counts.refused,
            counts.unknown,
            match counts.lost {
                0 => "none".to_owned(),
                lost => lost.to_string(),
            },
        );
        if counts.longest_wait > Duration::ZERO {
            let seconds = counts.longest_wait.as_secs_f64();
            summary += &format!(", acknowledged again after {seconds:.1} s at the most");
        }
        if failed > 0 {
            summary += &format!("; not counted: {failed} rounds that failed");
        }
        summary
    }
}

#[expect(clippy::print_stdout, reason = "it is for whoever runs the tests")]
fn tell(line: &str) {
    println!("{line}");
}

/// A number from the environment.
fn asked<T: FromStr>(variable: &str) -> Option<T> {
    let value = env::var(variable).ok().filter(|value| !value.is_empty())?;
    let number = value.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{variable} is no number: {value}")))
}
