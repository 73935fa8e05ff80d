//! Counters of calls refused for their credential, by reason.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Reason why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// The call has no credential.
    Missing,
    /// The credential is malformed.
    Malformed,
    /// The credential does not exist.
    Unknown,
    /// The secret is wrong.
    WrongSecret,
    /// The credential has expired.
    Expired,
    /// The credential was revoked.
    Revoked,
    /// The credential ended while the call was waiting or its stream was open.
    Ended,
    /// The credential does not permit the method.
    RoleDenied,
    /// The credentials could not be read.
    Unavailable,
}

impl FailureReason {
    /// All reasons, in the order of their discriminants.
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

    /// Name of the reason in logs and metrics.
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
    /// Counts one refused call from an address. None: the address is unknown.
    pub(super) fn count(&self, reason: FailureReason, address: Option<IpAddr>) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        // Any recent address is enough, so this does not wait for the lock.
        if let Some(mut last) = self.last_address.try_lock() {
            *last = address.or(*last);
        }
    }

    /// Number of refused calls by reason, in the order of [`FailureReason::ALL`].
    pub fn counts(&self) -> [u64; FailureReason::ALL.len()] {
        self.counts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Address of a recent refused call. None: no call was refused, or the address is unknown.
    pub fn last_address(&self) -> Option<IpAddr> {
        *self.last_address.lock()
    }
}
