//! The lanes of a server.

use crate::figures::writer::LaneKind;

/// A lane, by its kind and its place among those of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneId {
    /// Which operations it takes.
    pub kind: LaneKind,
    /// 0 takes any operation of its kind; 1 does while many wait, and otherwise batches, as higher places do.
    pub(super) place: usize,
}

impl LaneId {
    /// All lanes. Three share the small operations and two the large ones: a group is decided while others are committed; a fourth for small ones
    /// gained nothing. See [`Self::runs_on`].
    pub const ALL: [LaneId; 7] = [
        Self { kind: LaneKind::Main, place: 0 },
        Self { kind: LaneKind::Main, place: 1 },
        Self { kind: LaneKind::Main, place: 2 },
        Self { kind: LaneKind::Bulk, place: 0 },
        Self { kind: LaneKind::Bulk, place: 1 },
        Self { kind: LaneKind::Leases, place: 0 },
        Self { kind: LaneKind::Locking, place: 0 },
    ];

    /// Whether a server with this number of cores runs the lane. On one core groups cannot overlap, and further backends of Postgres only delay
    /// heartbeats.
    pub fn runs_on(self, cores: usize) -> bool {
        self.place == 0 || cores > 1
    }
}
