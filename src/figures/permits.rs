//! Figures of permits and breakers, counted from committed resources.

use super::Counter;
use super::kinds::Labelled;
use super::page::Page;
use super::sparse::Sparse;
use crate::domain::failure::FailureClass;
use crate::domain::permit::BlockReason;
use crate::domain::permit::breaker::BreakerPhase;

/// The states of a breaker, in the order of [`place`].
const PHASES: &[&str] = &["closed", "open", "half_open"];

/// Outcomes of permits: success, then the classes of failures in the order of their numbers.
const OUTCOMES: &[&str] = &[
    "success",
    "server_error",
    "rate_limited",
    "network",
    "client_error",
    "timeout",
    "cancelled",
    "internal",
    "lease_expired",
];

/// Figures of permits. All of them only grow.
#[derive(Debug)]
pub struct PermitFigures {
    /// Permits of single resources that were granted.
    pub granted: Counter,
    /// Permits of single resources that ended for any reason.
    pub ended: Counter,
    /// Permits of single resources that expired or were revoked.
    pub lost: Counter,
    released: Labelled<Counter>,
    /// Ready stages that were woken because a resource had room for them.
    pub stages_called: Counter,
    /// Alarms of resources that became due.
    pub alarms: Counter,
    /// Denials by reason, in the order of [`BlockReason::ALL`].
    pub denied: Labelled<Counter>,
    breakers: Labelled<Counter>,
    /// Log lines about breakers that open.
    pub opened: Sparse,
}

impl Default for PermitFigures {
    fn default() -> Self {
        let reasons = BlockReason::ALL.map(BlockReason::name);
        Self {
            granted: Counter::default(),
            ended: Counter::default(),
            lost: Counter::default(),
            released: Labelled::new("outcome", OUTCOMES, Counter::default),
            stages_called: Counter::default(),
            alarms: Counter::default(),
            denied: Labelled::new("reason", &reasons, Counter::default),
            breakers: Labelled::new("state", PHASES, Counter::default),
            opened: Sparse::of(5),
        }
    }
}

impl PermitFigures {
    /// Counts a permit that its holder released. `class`: the failure of its use; None: it succeeded.
    pub fn released(&self, class: Option<FailureClass>) {
        self.released.at(class.map_or(0, |class| class as usize)).inc();
    }

    /// Counts a breaker that entered a state.
    pub fn breaker_entered(&self, phase: BreakerPhase) {
        self.breakers.at(place(phase)).inc();
    }

    /// Adds the figures to a page.
    pub fn show(&self, page: &mut Page) {
        page.show("permits_granted", "Permits of single resources that were granted", &self.granted);
        page.show("permits_ended", "Permits of single resources that ended for any reason", &self.ended);
        page.show("permits_lost", "Permits of single resources that expired or were revoked", &self.lost);
        page.show("permits_released", "Permits that ReleasePermit ended, by the outcome it reported", &self.released);
        page.show("permits_denied", "Requests for a permit that were not granted at once, by reason", &self.denied);
        page.show(
            "permit_stages_called",
            "Ready stages that were woken because a resource had room for them",
            &self.stages_called,
        );
        page.show("permit_alarms", "Alarms of resources that became due", &self.alarms);
        page.show("breaker_changes", "Circuit breakers that entered a state, by state", &self.breakers);
    }
}

fn place(phase: BreakerPhase) -> usize {
    match phase {
        BreakerPhase::Closed => 0,
        BreakerPhase::Open => 1,
        BreakerPhase::HalfOpen => 2,
    }
}
