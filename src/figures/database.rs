//! Connections to the database, and whether it takes writes.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::{Counter, Gauge, Page};

/// No host yet.
const NONE: usize = usize::MAX;

/// Figures of the database.
#[derive(Debug)]
pub struct DatabaseFigures {
    /// 1 while writes are done, else 0.
    pub up: Gauge,
    /// Connections that were made.
    pub connects: Counter,
    /// Attempts to connect that failed.
    pub failures: Counter,
    /// Times at which the database was found away, and its connections were given up.
    pub losses: Counter,
    /// Times at which another host took the writes.
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
    /// Counts a connection to one of the hosts. True: it is another host than before.
    pub fn connected(&self, host: usize) -> bool {
        self.connects.inc();
        let before = self.host.swap(host, Ordering::Relaxed);
        let is_another = before != NONE && before != host;
        if is_another {
            self.failovers.inc();
        }
        is_another
    }

    /// Counts an attempt that failed, and keeps why for the log.
    pub fn failed(&self, why: &dyn std::fmt::Display) {
        self.failures.inc();
        self.note(why);
    }

    /// Keeps what Postgres or the driver said last, in their own words, for the log.
    pub fn note(&self, why: &dyn std::fmt::Display) {
        *self.trouble.lock() = Some(why.to_string());
    }

    /// What was said last.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    /// Forgets it: that trouble is over.
    pub fn forget_trouble(&self) {
        *self.trouble.lock() = None;
    }

    /// Puts them on a page.
    pub fn show(&self, page: &mut Page) {
        page.show("database_up", "1 while the database takes writes, else 0", &self.up);
        page.show("database_connects", "Connections to the database that were made", &self.connects);
        page.show("database_connect_failures", "Attempts to connect to the database that failed", &self.failures);
        page.show("database_losses", "Times at which the database was found away", &self.losses);
        page.show("database_failovers", "Times at which another host took the writes", &self.failovers);
    }
}
