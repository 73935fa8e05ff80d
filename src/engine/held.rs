//! Tables that foreign sessions hold: operations on them wait in the locking lane, apart from all others.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::domain::job::Job;
use crate::operation::overlay::{Key, match_key};
use crate::store::aggregate::Stored;
use crate::store::held::Tables;

/// Which tables were held when it was last looked; the lanes of a server share it. Remembered until the locking lane, where all who need
/// one of them wait, finds it free.
#[derive(Default)]
pub struct HeldTables(AtomicU8);

impl HeldTables {
    /// What a look found.
    pub fn set(&self, tables: &[Tables]) {
        self.0.store(tables.iter().fold(0, |bits, tables| bits | *tables as u8), Ordering::Relaxed);
    }

    /// Whether no table is held, which is usual.
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Those of the held tables that whoever looks at some keys needs, a bit each.
    pub fn among<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> u8 {
        if self.is_empty() { 0 } else { self.0.load(Ordering::Relaxed) & keys.fold(0, |bits, key| bits | tables(key)) }
    }
}

/// The tables of a key, a bit each.
fn tables(key: &Key) -> u8 {
    match_key!(key, A, _ => A::TABLES as u8,
        Key::Lease(_) => Job::TABLES as u8,
        Key::Request(_) => Tables::Requests as u8,
        Key::Namespace(_) => Tables::Namespaces as u8,
        Key::AuditLog => Tables::AuditLog as u8,
        // Whether a namespace is empty is asked of all that can be in it.
        Key::NamespaceName(_) => {
            Tables::Namespaces as u8 | Tables::Jobs as u8 | Tables::Records as u8 | Tables::Resources as u8
        }
    )
}
