//! Figures of the database: connections, and whether it accepts writes.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::page::Page;
use super::{Counter, Gauge};

/// Value of `host` before the first connection.
const NONE: usize = usize::MAX;

/// Figures of the database.
#[derive(Debug)]
pub struct DatabaseFigures {
    /// 1: the database accepts writes. 0: it does not.
    pub up: Gauge,
    /// Connections that were made.
    pub connects: Counter,
    /// Attempts to connect that failed.
    pub failures: Counter,
    /// Number of times the database stopped answering and its connections were closed.
    pub losses: Counter,
    /// Number of times another host accepted the writes.
    pub failovers: Counter,
    host: AtomicUsize,
    trouble: Mutex<Option<String>>,
}

impl Default for DatabaseFigures {
    fn default() -> Self {
        Self {
            up: Gauge::default(),
            connects: Counter::default(),
            failures: Counter::default(),
            losses: Counter::default(),
            failovers: Counter::default(),
            host: AtomicUsize::new(NONE),
            trouble: Mutex::default(),
        }
    }
}

impl DatabaseFigures {
    /// Counts a connection to the host with this index. Returns whether the connection before was to another host.
    pub fn connected(&self, host: usize) -> bool {
        self.connects.inc();
        let before = self.host.swap(host, Ordering::Relaxed);
        let is_another = before != NONE && before != host;
        if is_another {
            self.failovers.inc();
        }
        is_another
    }

    /// Counts a failed attempt to connect, and remembers the reason for the log.
    pub fn failed(&self, why: &dyn std::fmt::Display) {
        self.failures.inc();
        self.note(why);
    }

    /// Remembers the last error of Postgres or the driver for the log.
    pub fn note(&self, why: &dyn std::fmt::Display) {
        *self.trouble.lock() = Some(why.to_string());
    }

    /// The last error. None: there is none since the last one was forgotten.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Forgets the last error.
    pub fn forget_trouble(&self) {
        *self.trouble.lock() = None;
    }

    /// Adds the figures to a page.
    pub fn show(&self, page: &mut Page) {
        page.show("database_up", "1 while the database takes writes, else 0", &self.up);
        page.show("database_connects", "Connections to the database that were made", &self.connects);
        page.show("database_connect_failures", "Attempts to connect to the database that failed", &self.failures);
        page.show("database_losses", "Times at which the database stopped answering", &self.losses);
        page.show("database_failovers", "Times at which another host took the writes", &self.failovers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_another_host_than_before_are_failovers() {
        let figures = DatabaseFigures::default();
        let is_another: Vec<bool> = [1, 1, 0, 0, 1].into_iter().map(|host| figures.connected(host)).collect();
        assert_eq!(is_another, [false, false, true, false, true]);
        assert_eq!((figures.connects.get(), figures.failovers.get()), (5, 2));
    }
}
