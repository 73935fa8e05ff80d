//! Calls that were refused for their credential, by reason.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// It showed no credential.
    Missing,
    /// What it showed is no credential.
    Malformed,
    /// There is no such credential.
    Unknown,
    /// The secret is another one.
    WrongSecret,
    /// The credential has expired.
    Expired,
    /// The credential was revoked.
    Revoked,
    /// The credential ended while the call was waiting or its stream was open.
    Ended,
    /// The credential permits something else.
    RoleDenied,
    /// The credentials could not be read.
    Unavailable,
}

impl FailureReason {
    /// All of them, in the order of their positions.
    pub const ALL: [Self; 9] = [
        Self::Missing,
        Self::Malformed,
        Self::Unknown,
        Self::WrongSecret,
        Self::Expired,
        Self::Revoked,
        Self::Ended,
        Self::RoleDenied,
        Self::Unavailable,
    ];

    /// The name, as in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::WrongSecret => "wrong_secret",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Ended => "ended",
            Self::RoleDenied => "role_denied",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Counters of refused calls, since the server started.
#[derive(Debug, Default)]
pub struct Failures {
    counts: [AtomicU64; FailureReason::ALL.len()],
    last_address: Mutex<Option<IpAddr>>,
}

impl Failures {
    /// Counts one call that came from an address.
    pub(super) fn count(&self, reason: FailureReason, address: Option<IpAddr>) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        // Any of several addresses will do, so there is no waiting for the lock.
        if let Some(mut last) = self.last_address.try_lock() {
            *last = address.or(*last);
        }
    }

    /// How many calls were refused for each reason, in the order of [`FailureReason::ALL`].
    pub fn counts(&self) -> [u64; FailureReason::ALL.len()] {
        self.counts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Where a refused call came from lately. None: none was refused, or its address is not known.
    pub fn last_address(&self) -> Option<IpAddr> {
        *self.last_address.lock()
    }
}
