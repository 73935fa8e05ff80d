//! Wait queue of a resource: waiting callers, and one shared entry for all waiting stages.

use std::cmp::Reverse;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{LeaseBinding, PermitClaim, PermitMode};
use crate::domain::id::{LeaseToken, Name};
use crate::domain::time::Timestamp;

/// Time after which the entry of the stages is checked for stages that no longer wait, if callers wait behind it.
const SEEN_FOR: Duration = Duration::from_secs(30);

/// Position in a queue: higher priority first, then earlier arrival, then id.
pub type QueuePosition = (Reverse<i32>, Timestamp, Uuid);

/// A caller that waits for a permit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiter {
    /// Id of the permit that it will be granted.
    #[serde(skip)]
    pub id: Uuid,
    /// Server that the caller is connected to.
    pub server: Uuid,
    /// All claims of its request.
    pub claims: Vec<PermitClaim>,
    /// Priority; higher is served first.
    pub priority: i32,
    /// Arrival, unique among the waiters of a resource.
    pub arrival: Timestamp,
    /// Time at which the caller stops waiting.
    pub until: Timestamp,
    /// Holder, as it names itself.
    pub holder: Name,
    /// Time to live of its permit.
    pub ttl: Duration,
    /// Lease that its permit is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseBinding>,
}

impl Waiter {
    /// Position of the waiter in every queue that it is in.
    pub fn position(&self) -> QueuePosition {
        (Reverse(self.priority), self.arrival, self.id)
    }

    /// Lease that its permit is bound to.
    pub fn lease_token(&self) -> Option<LeaseToken> {
        self.lease.map(LeaseToken::from)
    }
}

/// Queue entry that all ready stages share which wait for the resource. The stages themselves are rows of `ready_stages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageWaiters {
    /// Highest known priority of the stages.
    pub priority: i32,
    /// Arrival of the first stage, or the time after the last wake-up.
    pub arrival: Timestamp,
    /// Amount that the first stage claims.
    pub amount: i64,
    /// Mode that the first stage claims.
    pub mode: PermitMode,
    /// Time at which stages were last seen waiting, accurate to seconds.
    pub seen: Timestamp,
    /// State of the wake-up of stages.
    #[serde(default, skip_serializing_if = "StageWakeUp::is_none")]
    pub wake: StageWakeUp,
    /// Time until which wake-ups take the first stages of every work queue, because those at the head had no workers. `None`: wake-ups take
    /// stages in queue order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_queue_until: Option<Timestamp>,
}

/// State of the wake-up of stages that wait for a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StageWakeUp {
    /// No stage is woken: all of them wait.
    #[default]
    None,
    /// As many stages as there was headroom for were woken, and the headroom is reserved for them.
    Woken {
        /// End of the reservation.
        until: Timestamp,
    },
    /// Stages were woken and no worker has taken them. They can be leased at any time; waiters behind them are served meanwhile.
    Idle,
}

impl StageWakeUp {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl StageWaiters {
    /// Makes the entry for the first stage.
    pub fn new(priority: i32, arrival: Timestamp, amount: i64, mode: PermitMode, now: Timestamp) -> Self {
        Self { priority, arrival, amount, mode, seen: now, wake: StageWakeUp::None, every_queue_until: None }
    }

    /// Whether waiters behind the stages have to wait.
    pub fn blocks_queue(&self, now: Timestamp) -> bool {
        match self.wake {
            StageWakeUp::None => true,
            StageWakeUp::Woken { until } => until > now,
            StageWakeUp::Idle => false,
        }
    }

    /// Time of the next check for stages that no longer wait, if callers wait behind the entry.
    pub fn recheck_at(&self) -> Timestamp {
        self.seen.after(SEEN_FOR)
    }

    /// Position of the entry in the queue.
    pub fn position(&self) -> QueuePosition {
        (Reverse(self.priority), self.arrival, Uuid::nil())
    }
}
