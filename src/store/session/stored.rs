//! The statements of sessions and segments.

use std::sync::Arc;

use foldhash::HashMap;

use crate::domain::session::segment::{Segment, SegmentKey};
use crate::domain::session::{Session, SessionKey};
use crate::domain::time::Timestamp;
use crate::store::aggregate::Stored;
use crate::store::commit::Plan;
use crate::store::load;
use crate::store::pg::connection::{DbResult, Run};
use crate::store::pg::held::Tables;

impl Stored for Session {
    const TABLES: Tables = Tables::Timelines;

    async fn load(
        client: &impl Run,
        keys: &[SessionKey],
        known: &HashMap<SessionKey, Arc<Self>>,
    ) -> DbResult<HashMap<SessionKey, Arc<Self>>> {
        load::sessions(client, keys, known).await
    }

    async fn lock(client: &impl Run, keys: &[SessionKey], wait: bool) -> DbResult<()> {
        load::lock_sessions(client, keys, wait).await
    }

    fn check_version(plan: &mut Plan, c: i32, key: &SessionKey, base: Option<&Self>) {
        plan.check_session(c, *key, base);
    }

    fn share_lock(plan: &mut Plan, c: i32, key: &SessionKey, base: Option<&Self>) {
        plan.share_lock_session(c, *key, base);
    }

    fn write(
        plan: &mut Plan,
        c: i32,
        key: &SessionKey,
        (base, after): (Option<&Self>, Option<&Self>),
        (): &(),
        _now: Timestamp,
    ) {
        plan.write_session(c, *key, base, after);
    }
}

impl Stored for Segment {
    const TABLES: Tables = Tables::Timelines;

    async fn load(
        client: &impl Run,
        keys: &[SegmentKey],
        _known: &HashMap<SegmentKey, Arc<Self>>,
    ) -> DbResult<HashMap<SegmentKey, Arc<Self>>> {
        load::segments(client, keys).await
    }

    /// Locks nothing: whoever writes a segment has locked its session, which comes before.
    async fn lock(_client: &impl Run, _keys: &[SegmentKey], _wait: bool) -> DbResult<()> {
        Ok(())
    }

    fn check_version(plan: &mut Plan, c: i32, key: &SegmentKey, base: Option<&Self>) {
        plan.check_segment(c, key, base);
    }

    /// A check is enough: a segment is read only to write in its session, and the lock of that keeps it as it is.
    fn share_lock(plan: &mut Plan, c: i32, key: &SegmentKey, base: Option<&Self>) {
        plan.check_segment(c, key, base);
    }

    fn write(
        plan: &mut Plan,
        c: i32,
        key: &SegmentKey,
        (base, after): (Option<&Self>, Option<&Self>),
        (): &(),
        _now: Timestamp,
    ) {
        plan.write_segment(c, key, base, after);
    }
}
