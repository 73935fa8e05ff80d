//! Who waits for a resource: callers, and ready stages, which have one place together.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Bound, Claim, Mode};
use crate::domain::id::{LeaseToken, Name};
use crate::domain::time::Timestamp;

/// A turn of which no stage was seen for so long is nobody's; stages that wait try again every ten seconds.
const ABANDONED_AFTER: Duration = Duration::from_secs(30);

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

/// The one place in the line for all ready stages that wait for the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// That of the stage that came first.
    pub priority: i32,
    /// When it came.
    pub arrival: Timestamp,
    /// What that stage asks for.
    pub amount: i64,
    /// How it would use it.
    pub mode: Mode,
    /// When a stage was last seen to wait, to within seconds. They try again now and then; where none does, none waits.
    pub seen: Timestamp,
    /// Stages have been called and have precedence until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called_until: Option<Timestamp>,
}

impl Turn {
    /// Whether a stage that waits would have been seen since.
    pub fn is_abandoned(&self, now: Timestamp) -> bool {
        self.seen.after(ABANDONED_AFTER) <= now
    }

    /// When it is abandoned unless a stage is seen.
    pub fn abandoned_at(&self) -> Timestamp {
        self.seen.after(ABANDONED_AFTER)
    }

    /// Where the stages stand.
    pub fn place(&self) -> Place {
        (Reverse(self.priority), self.arrival, Uuid::nil())
    }
}
