//! The page for scrapers: all figures in the OpenMetrics text format, each with its help and unit.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Metric, Registry, Unit};

/// Prefix of all names.
const PREFIX: &str = "interlock";
/// The content type of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A label and its value.
pub type Label<'a> = (&'static str, &'a str);

/// All figures of one server, in the order in which they are shown.
#[derive(Debug)]
pub struct Page(Registry);

impl Default for Page {
    fn default() -> Self {
        Self(Registry::with_prefix(PREFIX))
    }
}

impl Page {
    /// Adds a figure. `name` is without prefix, unit and `_total`; `help` is a sentence without its full stop.
    pub fn show(&mut self, name: &str, help: &str, figure: &(impl Metric + Clone)) {
        self.0.register(name, help, figure.clone());
    }

    /// Adds a figure in seconds; the unit is appended to `name`.
    pub fn show_seconds(&mut self, name: &str, help: &str, figure: &(impl Metric + Clone)) {
        self.0.register_with_unit(name, help, Unit::Seconds, figure.clone());
    }

    /// Adds figures that are measured for each page.
    pub fn measure(&mut self, measure: impl Fn(&mut Samples<'_>) -> fmt::Result + Send + Sync + 'static) {
        self.0.register_collector(Box::new(Measured(measure)));
    }

    /// The text of the page now.
    ///
    /// # Errors
    /// Those of a measurement. Writing to a string does not fail.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

struct Measured<F>(F);

impl<F> fmt::Debug for Measured<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl<F: Fn(&mut Samples<'_>) -> fmt::Result + Send + Sync + 'static> Collector for Measured<F> {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        (self.0)(&mut Samples(encoder))
    }
}

/// Writes figures that were measured for this page.
pub struct Samples<'a>(DescriptorEncoder<'a>);

impl Samples<'_> {
    /// Writes a gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, &sentence(help), None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// Writes a counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, &sentence(help), None, MetricType::Counter)?;
        encoder.encode_counter::<[(&str, &str); 0], _, f64>(&value, None)
    }

    /// Writes a gauge for each set of labels.
    pub fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], f64)>,
    ) -> fmt::Result {
        self.family((name, help, None), MetricType::Gauge, values, |mut encoder, value| encoder.encode_gauge(&value))
    }

    /// Writes a gauge in seconds for each set of labels.
    pub fn gauges_in_seconds<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], f64)>,
    ) -> fmt::Result {
        let named = (name, help, Some(&Unit::Seconds));
        self.family(named, MetricType::Gauge, values, |mut encoder, value| encoder.encode_gauge(&value))
    }

    /// Writes a counter for each set of labels.
    pub fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], u64)>,
    ) -> fmt::Result {
        self.family((name, help, None), MetricType::Counter, values, |mut encoder, value| {
            encoder.encode_counter::<[(&str, &str); 0], _, f64>(&value, None)
        })
    }

    /// Writes a histogram in seconds for each set of labels: upper bound and count of each bucket (not cumulative), and the sum.
    pub fn histograms<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], (Vec<(f64, u64)>, f64))>,
    ) -> fmt::Result {
        let named = (name, help, Some(&Unit::Seconds));
        self.family(named, MetricType::Histogram, values, |mut encoder, (buckets, sum)| {
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
        })
    }

    fn family<'l, V, const N: usize>(
        &mut self,
        (name, help, unit): (&str, &str, Option<&Unit>),
        kind: MetricType,
        values: impl IntoIterator<Item = ([Label<'l>; N], V)>,
        encode: impl Fn(MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, &sentence(help), unit, kind)?;
        for (labels, value) in values {
            encode(encoder.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

/// A help text with its full stop, which the library adds for registered figures.
fn sentence(help: &str) -> String {
    format!("{help}.")
}
