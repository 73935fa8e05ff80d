//! What operators see: figures for a scraper, the state for a load balancer, lines in the log.

mod bounds;
pub mod exposition;
mod files;
mod logs;
mod scrapes;
