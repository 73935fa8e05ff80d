//! Who waits for a resource: callers, and ready stages, which share one place.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Bound, Claim, Mode};
use crate::domain::id::{LeaseToken, Name};
use crate::domain::time::Timestamp;

/// The place of stages is looked at again after this long, in case none of them is left: others wait behind it.
const SEEN_FOR: Duration = Duration::from_secs(30);

/// Who is before whom: the higher priority, then the earlier arrival.
pub type Place = (Reverse<i32>, Timestamp, Uuid);

/// Somebody who waits for a permit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiter {
    /// The permit it will have.
    #[serde(skip)]
    pub id: Uuid,
    /// The server that answers it.
    pub server: Uuid,
    /// All that it asks for.
    pub claims: Vec<Claim>,
    /// Higher is first.
    pub priority: i32,
    /// When it came; never that of another waiter of the same resource.
    pub arrival: Timestamp,
    /// When it gives up.
    pub until: Timestamp,
    /// Who, by its own word.
    pub holder: Name,
    /// How long its permit lasts.
    pub ttl: Duration,
    /// The lease its permit is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Bound>,
}

impl Waiter {
    /// Where it stands.
    pub fn place(&self) -> Place {
        (Reverse(self.priority), self.arrival, self.id)
    }

    /// The lease its permit is bound to.
    pub fn lease_token(&self) -> Option<LeaseToken> {
        self.lease.map(LeaseToken::from)
    }
}

/// The place in the line that all ready stages share which wait for the resource. The stages themselves stand in `ready_stages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePlace {
    /// The highest priority of the stages, as far as it is known.
    pub priority: i32,
    /// When the first of them came, or when some of them last had their wake-up.
    pub arrival: Timestamp,
    /// What the first of them asks for.
    pub amount: i64,
    /// How it would use it.
    pub mode: Mode,
    /// When stages were last seen to wait, to within seconds.
    pub seen: Timestamp,
    /// Whether stages have been woken.
    #[serde(default, skip_serializing_if = "Wake::is_none")]
    pub wake: Wake,
    /// Until then wake-ups take the first stages of every queue: those at the head of the line have no workers. None: in the order of the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_queue_until: Option<Timestamp>,
}

/// Where the wake-up of stages that wait for a resource stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Wake {
    /// None was woken: all of them wait.
    #[default]
    None,
    /// As many as there was room for were woken, and the room is left for them.
    Woken {
        /// Until then.
        until: Timestamp,
    },
    /// Some were woken and no worker has taken them. They can be picked at any time; those behind them are served meanwhile.
    Idle,
}

impl Wake {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl StagePlace {
    /// The place of stages of which the first has come.
    pub fn new(priority: i32, arrival: Timestamp, amount: i64, mode: Mode, now: Timestamp) -> Self {
        Self { priority, arrival, amount, mode, seen: now, wake: Wake::None, every_queue_until: None }
    }

    /// Whether those behind it have to wait.
    pub fn holds_up(&self, now: Timestamp) -> bool {
        match self.wake {
            Wake::None => true,
            Wake::Woken { until } => until > now,
            Wake::Idle => false,
        }
    }

    /// When it is to be looked at again, if others wait behind it.
    pub fn check_at(&self) -> Timestamp {
        self.seen.after(SEEN_FOR)
    }

    /// Where the stages stand.
    pub fn place(&self) -> Place {
        (Reverse(self.priority), self.arrival, Uuid::nil())
    }
}
