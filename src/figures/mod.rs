//! Figures: the counters, gauges and histograms that the parts of a server update, and the page that shows them.
//!
//! Layout: `kinds` are histograms and figures with a label; one file for each part that counts (`writer`, `feed`, `permits`, `jobs`, `queues`,
//! `dispatch`, `database`, `replica`, `door`); `page` renders all in the OpenMetrics text format; `sparse` bounds log lines.
//!
//! **Invariants.** Counting takes no lock and makes no label: the values of labels are fixed, and resolved when a part starts. A job, a record or
//! a worker is never a label; queues are limited to [`queues::MAX_QUEUES`]. A change of a job is counted once, after its commit, by the server that
//! committed it. `GetStatistics` reads the same figures.

pub mod database;
pub mod dispatch;
pub mod door;
pub mod feed;
pub mod jobs;
pub mod kinds;
pub mod page;
pub mod permits;
pub mod queues;
pub mod replica;
pub mod sparse;
pub mod writer;

pub use page::{Page, Samples};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use sparse::Sparse;
