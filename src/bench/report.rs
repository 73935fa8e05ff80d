//! Report of a bench: a table for people, or JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

/// One row of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Name of the workload, for example `update many jobs`.
    pub workload: String,
    /// `interlock`, or the name of the variant it is compared with.
    pub variant: String,
    /// Number of concurrent calls.
    pub in_flight: usize,
    /// Acknowledged operations per second, median of the runs.
    pub per_second: f64,
    /// Median latency in microseconds.
    pub p50_us: u32,
    /// 99th percentile of the latency, in microseconds.
    pub p99_us: u32,
    /// CPU of the server process per operation, in microseconds.
    pub server_cpu_us: f64,
    /// CPU of Postgres per operation, in microseconds.
    pub postgres_cpu_us: f64,
    /// Bytes of Postgres' log per operation.
    pub wal_bytes: f64,
    /// Transactions committed per operation.
    pub commits: f64,
    /// Median of the ratios of `per_second` within a pair, ours to the other; 1 for the other. None: there is no
    /// comparison.
    pub ratio: Option<f64>,
    /// Smallest and largest of those ratios. None: there is no comparison.
    pub spread: Option<(f64, f64)>,
    /// Ratio of the longest latency to the mean, for workloads with waiters. None: not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unfairness: Option<f64>,
    /// Peak memory of the server process so far, in bytes.
    pub memory_bytes: u64,
}

impl Row {
    /// A row without figures.
    pub fn blank(workload: &str, variant: &str, in_flight: usize) -> Self {
        Self {
            workload: workload.to_owned(),
            variant: variant.to_owned(),
            in_flight,
            per_second: 0.0,
            p50_us: 0,
            p99_us: 0,
            server_cpu_us: 0.0,
            postgres_cpu_us: 0.0,
            wal_bytes: 0.0,
            commits: 0.0,
            ratio: None,
            spread: None,
            unfairness: None,
            memory_bytes: 0,
        }
    }

    /// Sets the median of the ratios of some pairs, and their spread; None if there are no pairs.
    pub fn set_ratios(&mut self, ratios: impl Iterator<Item = f64>) {
        let mut ratios: Vec<f64> = ratios.collect();
        ratios.sort_by(f64::total_cmp);
        self.ratio = ratios.get(ratios.len() / 2).copied();
        self.spread = ratios.first().copied().zip(ratios.last().copied());
    }
}

#[derive(Serialize)]
struct Document<'a> {
    rows: &'a [Row],
}

/// Writes a line about a run to the standard error. Nothing happens if it is closed.
pub fn remark(line: impl AsRef<str>) {
    let _closed = writeln!(io::stderr().lock(), "{}", line.as_ref());
}

/// Writes the conditions of the measurement.
///
/// # Errors
/// If the output cannot be written.
pub fn heading(out: &mut impl Write, settings: &[(String, String)], probe: Option<&str>) -> io::Result<()> {
    let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    if !settings.is_empty() {
        writeln!(out, "Postgres: {}", settings.join(" "))?;
    }
    match probe {
        Some(probe) => {
            writeln!(out, "fdatasync of 8 KiB: {probe}; {cores} cores, shared by load generator, server and Postgres")
        }
        None => {
            writeln!(out, "a server that ran before; the load generator has {cores} cores, CPU and memory are not seen")
        }
    }
}

/// Writes the rows as a table or as JSON.
///
/// # Errors
/// If the output cannot be written.
pub fn write(out: &mut impl Write, rows: &[Row], json: bool) -> io::Result<()> {
    if json {
        let text = serde_json::to_string_pretty(&Document { rows }).map_err(io::Error::other)?;
        return writeln!(out, "{text}");
    }
    writeln!(
        out,
        "{:<22} {:<12} {:>6} {:>9} {:>8} {:>8} {:>8} {:>8} {:>7} {:>8} {:>6}  spread",
        "workload", "variant", "flight", "per s", "p50 µs", "p99 µs", "srv µs", "pg µs", "WAL B", "commits", "ratio"
    )?;
    for row in rows {
        let ratio = row.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let spread = row.spread.map_or("–".to_owned(), |(least, most)| format!("{least:.2}–{most:.2}"));
        writeln!(
            out,
            "{:<22} {:<12} {:>6} {:>9.0} {:>8} {:>8} {:>8.1} {:>8.1} {:>7.0} {:>8.3} {:>6}  {}",
            row.workload,
            row.variant,
            row.in_flight,
            row.per_second,
            row.p50_us,
            row.p99_us,
            row.server_cpu_us,
            row.postgres_cpu_us,
            row.wal_bytes,
            row.commits,
            ratio,
            spread
        )?;
    }
    for row in rows {
        if let Some(unfairness) = row.unfairness {
            writeln!(
                out,
                "{}, {} in flight, {}: longest wait / mean {unfairness:.1}",
                row.workload, row.in_flight, row.variant
            )?;
        }
    }
    let memory = rows.iter().filter(|row| row.variant == "interlock").map(|row| row.memory_bytes).max().unwrap_or(0);
    if memory > 0 {
        writeln!(out, "server memory at most {} MiB", memory >> 20)?;
    }
    Ok(())
}
