//! Histograms of atomics, and figures with one label of fixed values.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Bounds of durations in microseconds, from a hundred microseconds to half a minute: waits and commits.
pub const SHORT: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];
/// Bounds of durations in microseconds, from ten milliseconds to a day: attempts, backoffs.
pub const LONG: &[u64] = &[
    10_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
    14_400_000_000,
    86_400_000_000,
];
/// Bounds of durations in microseconds, from ten milliseconds to an hour: few, for histograms that exist once for each queue.
pub const COARSE: &[u64] = &[10_000, 100_000, 1_000_000, 10_000_000, 60_000_000, 600_000_000, 3_600_000_000];
/// Bounds of the number of operations in a group.
pub const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// Microseconds in a second, the base unit of durations.
const MICROS: f64 = 1_000_000.0;

/// Counts observations by value. An observation is two atomic additions; the library's own histogram takes a lock.
#[derive(Clone)]
pub struct Histogram(Arc<Observed>);

struct Observed {
    bounds: &'static [u64],
    /// Number of observations up to each bound and above the one before. The last count is of those above all bounds.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    per_unit: f64,
}

impl Histogram {
    /// A histogram of durations. `bounds` are in microseconds, the base unit is the second.
    pub fn of_durations(bounds: &'static [u64]) -> Self {
        Self::new(bounds, MICROS)
    }

    /// A histogram of numbers, which have no unit.
    pub fn of_numbers(bounds: &'static [u64]) -> Self {
        Self::new(bounds, 1.0)
    }

    fn new(bounds: &'static [u64], per_unit: f64) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Observed { bounds, counts, sum: AtomicU64::new(0), per_unit }))
    }

    /// Adds an observation that is a duration.
    pub fn took(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds an observation: a number, or a duration in microseconds.
    pub fn observe(&self, value: u64) {
        let place = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.counts[place].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The upper bound and count of each bucket (not cumulative), and the sum of the observations in the base unit.
    pub(super) fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let upper = self.0.bounds.iter().map(|bound| *bound as f64 / self.0.per_unit).chain([f64::INFINITY]);
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        (upper.zip(counts).collect(), self.0.sum.load(Ordering::Relaxed) as f64 / self.0.per_unit)
    }

    /// Adds all observations of another histogram with the same bounds.
    pub(super) fn add_all(&self, other: &Self) {
        for (mine, theirs) in self.0.counts.iter().zip(&other.0.counts) {
            mine.fetch_add(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.0.sum.fetch_add(other.0.sum.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({} observations)", self.count())
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let (buckets, sum) = self.read();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// One figure for each value of a label. All values are known from the start, so a figure is found by its index.
#[derive(Clone, Debug)]
pub struct Labelled<M> {
    key: &'static str,
    each: Arc<[(&'static str, M)]>,
}

impl<M> Labelled<M> {
    /// Makes a figure for each value of the label `key`.
    pub fn new(key: &'static str, values: &[&'static str], make: impl Fn() -> M) -> Self {
        Self { key, each: values.iter().map(|value| (*value, make())).collect() }
    }

    /// The figure of the value at an index.
    ///
    /// # Panics
    /// If there is no such value.
    pub fn at(&self, index: usize) -> &M {
        &self.each[index].1
    }

    /// All figures, each with its value of the label.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &M)> {
        self.each.iter().map(|(value, figure)| (*value, figure))
    }
}

impl Labelled<super::Counter> {
    /// The sum of all counters.
    pub fn sum(&self) -> u64 {
        self.iter().map(|(_, counter)| counter.get()).sum()
    }
}

impl<M: TypedMetric> TypedMetric for Labelled<M> {
    const TYPE: MetricType = M::TYPE;
}

impl<M: EncodeMetric> EncodeMetric for Labelled<M> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        for (value, figure) in self.iter() {
            figure.encode(encoder.encode_family(&[(self.key, value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.each.first().map_or(MetricType::Unknown, |(_, figure)| figure.metric_type())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_counts_each_observation_in_one_bucket() {
        let histogram = Histogram::of_durations(&[1_000, 2_000_000]);
        for micros in [0, 1_000, 1_001, 2_000_000, 2_000_001, 5_000_000] {
            histogram.observe(micros);
        }
        let (buckets, sum) = histogram.read();
        assert_eq!(buckets, [(0.001, 2), (2.0, 2), (f64::INFINITY, 2)]);
        assert!((sum - 9.002_002).abs() < 1e-9, "{sum}");
        histogram.add_all(&histogram.clone());
        assert_eq!(histogram.count(), 12);
    }

    #[test]
    fn bounds_grow() {
        for bounds in [SHORT, LONG, COARSE, SIZES] {
            assert!(bounds.is_sorted_by(|one, next| one < next), "{bounds:?}");
        }
    }
}
