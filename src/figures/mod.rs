//! All figures of a server: the counters, gauges and histograms that its parts update, and the page that shows them.
//!
//! Layout: `kinds` are histograms and sets of labelled figures; one file for each part that counts (`writer`, `feed`, `permits`, `jobs`,
//! `queues`, `database`, `door`); `page` renders them all in the OpenMetrics text format; `sparse` bounds log lines.
//!
//! **Invariants.** Counting takes no lock and makes no label: sets of labels are fixed, and resolved when a part starts. A job, a record or
//! a worker is never a label; queues are capped ([`queues::MAX_QUEUES`]). Whatever happens to a job is counted after its commit, once, by the
//! server that committed it. `GetStatistics` reads the same figures.

pub mod database;
pub mod dispatch;
pub mod door;
pub mod feed;
pub mod jobs;
pub mod kinds;
pub mod page;
pub mod permits;
pub mod queues;
pub mod sparse;
pub mod writer;

pub use kinds::{Histogram, Labelled};
pub use page::{Page, Samples};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use sparse::Sparse;
