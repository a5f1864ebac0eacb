//! Histograms with fixed buckets.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Writers;

/// The most bounds that a histogram has.
const MAX_BOUNDS: usize = 20;

/// The upper bounds of the buckets for latencies, in nanoseconds: from a call of the guest to the time-outs.
const LATENCY_BOUNDS: &[u64] = &[
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

static LATENCY_BUCKETS: Buckets = Buckets::new(LATENCY_BOUNDS, Scale::Nanoseconds);

/// The upper bounds of the buckets for numbers of puts in a batch: up to the largest batch.
const SIZE_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

static SIZE_BUCKETS: Buckets = Buckets::new(SIZE_BOUNDS, Scale::Units);

/// The unit of the observations of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Nanoseconds,
    Units,
}

/// The buckets of a kind of histogram.
#[derive(Debug)]
struct Buckets {
    bounds: &'static [u64],
    scale: Scale,
    /// For each number of bits, the bucket of the smallest number that has as many: the bucket of any other is
    /// that one, or shortly after it. A binary search would mispredict a branch for each observation.
    first_of_bits: [u8; u64::BITS as usize + 1],
}

/// A histogram. Those of a [`ServerMetrics`](super::server_metrics::ServerMetrics) exist once for each
/// processor.
#[derive(Debug)]
pub(crate) struct Histogram {
    kind: &'static Buckets,
    /// The observations up to each bound and above the previous one, and then those above all bounds.
    buckets: [AtomicU64; MAX_BOUNDS + 1],
    sum: AtomicU64,
}

/// When something started that a histogram observes; `None` if nobody can read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Option<Instant>);

/// The observations of one or more histograms at one time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observations {
    /// The upper bound of each bucket in seconds, or in units, with the observations in it alone.
    pub(crate) buckets: Vec<(f64, u64)>,
    pub(crate) sum: f64,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self::start_if(cfg!(feature = "admin"))
    }

    /// Starts, if `is_read`.
    pub(crate) fn start_if(is_read: bool) -> Self {
        Self(is_read.then(Instant::now))
    }

    /// A later start, if anybody can read it.
    pub(crate) fn restart(self) -> Self {
        Self::start_if(self.0.is_some())
    }

    /// Awaits `future`, and starts again if that was a wait: a clock is read only then.
    pub(crate) async fn exclude_wait<F: Future>(&mut self, future: F) -> F::Output {
        let (mut future, mut has_waited) = (pin!(future), false);
        let output = poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            has_waited |= polled.is_pending();
            polled
        });
        let output = output.await;
        if has_waited {
            *self = self.restart();
        }
        output
    }

    /// When it was started, or now.
    pub(crate) fn started_at(self) -> Instant {
        self.0.unwrap_or_else(Instant::now)
    }
}

impl Buckets {
    const fn new(bounds: &'static [u64], scale: Scale) -> Self {
        let mut first_of_bits = [0; u64::BITS as usize + 1];
        let (mut bits, mut bucket) = (1, 0);
        while bits < first_of_bits.len() {
            let smallest = 1 << (bits - 1);
            while bucket < bounds.len() && bounds[bucket] < smallest {
                bucket += 1;
            }
            first_of_bits[bits] = bucket as u8;
            bits += 1;
        }
        Self {
            bounds,
            scale,
            first_of_bits,
        }
    }

    /// The index of the bucket of a number.
    fn index_of(&self, number: u64) -> usize {
        let bits = u64::BITS - number.leading_zeros();
        let first = usize::from(self.first_of_bits[bits as usize]);
        let further = self.bounds[first..].iter();
        first + further.take_while(|bound| **bound < number).count()
    }
}

impl Histogram {
    /// A histogram of latencies.
    pub(crate) fn of_seconds() -> Self {
        Self::new(&LATENCY_BUCKETS)
    }

    /// A histogram of numbers of puts.
    pub(crate) fn of_sizes() -> Self {
        Self::new(&SIZE_BUCKETS)
    }

    fn new(kind: &'static Buckets) -> Self {
        Self {
            kind,
            buckets: Default::default(),
            sum: AtomicU64::new(0),
        }
    }

    /// Observes the time since `start`. Returns the end of that time: the clock is read once where the next time
    /// starts.
    pub(crate) fn observe_since(&self, start: Stopwatch, writers: Writers) -> Stopwatch {
        let end = start.restart();
        self.observe_between(start, end, writers);
        end
    }

    pub(crate) fn observe_between(&self, start: Stopwatch, end: Stopwatch, writers: Writers) {
        if let (Some(start), Some(end)) = (start.0, end.0) {
            self.observe_time(end.duration_since(start), writers);
        }
    }

    fn observe_time(&self, time: Duration, writers: Writers) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.observe(nanoseconds, writers);
    }

    /// Observes a number, in nanoseconds or units.
    pub(crate) fn observe(&self, number: u64, writers: Writers) {
        writers.add(&self.buckets[self.kind.index_of(number)], 1);
        writers.add(&self.sum, number);
    }

    pub(crate) fn observations(&self) -> Observations {
        Self::total([self])
    }

    /// The observations of histograms of the same kind together.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a sum of latencies is shown, not computed with"
    )]
    pub(crate) fn total<'a>(histograms: impl IntoIterator<Item = &'a Self>) -> Observations {
        let mut histograms = histograms.into_iter().peekable();
        let first = histograms.peek().expect("there is a shard");
        let Buckets { bounds, scale, .. } = first.kind;
        let unit = match scale {
            Scale::Nanoseconds => 1e9,
            Scale::Units => 1.0,
        };
        let bounds = bounds.iter().map(|bound| *bound as f64 / unit);
        let mut buckets: Vec<(f64, u64)> = bounds
            .chain([f64::INFINITY])
            .map(|bound| (bound, 0))
            .collect();
        let mut sum = 0_u64;
        for histogram in histograms {
            for ((_, total), bucket) in buckets.iter_mut().zip(&histogram.buckets) {
                *total += bucket.load(Ordering::Relaxed);
            }
            sum = sum.wrapping_add(histogram.sum.load(Ordering::Relaxed));
        }
        let sum = sum as f64 / unit;
        Observations { buckets, sum }
    }
}

impl Observations {
    /// The number of observations.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::time::Duration;

    use tokio::task::yield_now;

    use super::{Histogram, LATENCY_BUCKETS, MAX_BOUNDS, SIZE_BUCKETS, Stopwatch};
    use crate::metrics::Writers;

    #[tokio::test]
    async fn time_that_nobody_reads_is_not_measured() {
        let mut unread = Stopwatch::start_if(false);
        unread.exclude_wait(yield_now()).await;
        let histogram = Histogram::of_seconds();
        let end = histogram.observe_since(unread, Writers::One);
        assert!(unread.0.is_none() && end.0.is_none());
        assert_eq!(histogram.observations().count(), 0);
    }

    #[tokio::test]
    async fn wait_is_excluded() {
        let start = Stopwatch::start_if(true);
        let mut stopwatch = start;
        assert_eq!(stopwatch.exclude_wait(ready(1)).await, 1);
        assert_eq!(stopwatch.started_at(), start.started_at());
        stopwatch.exclude_wait(yield_now()).await;
        assert!(stopwatch.started_at() > start.started_at());
    }

    #[test]
    fn bounds_are_sorted_and_fit() {
        for buckets in [&LATENCY_BUCKETS, &SIZE_BUCKETS] {
            assert!(buckets.bounds.is_sorted() && buckets.bounds.len() <= MAX_BOUNDS);
        }
    }

    #[test]
    fn bucket_is_that_of_binary_search() {
        for buckets in [&LATENCY_BUCKETS, &SIZE_BUCKETS] {
            let bounds = buckets.bounds;
            let powers = (0..u64::BITS).map(|bits| 1 << bits);
            for near in bounds.iter().copied().chain(powers).chain([u64::MAX]) {
                for number in [near.saturating_sub(1), near, near.saturating_add(1)] {
                    let expected = bounds.partition_point(|bound| *bound < number);
                    assert_eq!(buckets.index_of(number), expected, "{number}");
                }
            }
        }
    }

    #[test]
    fn observation_is_in_bucket_of_next_bound() {
        let (one, other) = (Histogram::of_seconds(), Histogram::of_seconds());
        one.observe_time(Duration::from_micros(5), Writers::One);
        one.observe_time(Duration::from_nanos(5_001), Writers::Many);
        other.observe_time(Duration::from_secs(31), Writers::One);
        let total = Histogram::total([&one, &other]);
        assert_eq!(total.count(), 3);
        assert_eq!(total.buckets[..2], [(5e-6, 1), (1e-5, 1)]);
        assert_eq!(total.buckets.last(), Some(&(f64::INFINITY, 1)));
        assert!((total.sum - 31.000_010_001).abs() < 1e-6, "{}", total.sum);
    }

    #[test]
    fn sizes_are_counted_in_units() {
        let sizes = Histogram::of_sizes();
        sizes.observe(1024, Writers::One);
        sizes.observe(1, Writers::One);
        let sizes = sizes.observations();
        assert_eq!(
            (sizes.buckets[0], sizes.buckets[10]),
            ((1.0, 1), (1024.0, 1))
        );
        assert_eq!((sizes.count(), sizes.sum), (2, 1025.0));
    }
}
