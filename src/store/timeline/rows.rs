//! All segments of a session in order, in steps: for exports and statistics.

use std::time::Duration;

use tokio_postgres::Row;

use crate::domain::session::SessionKey;
use crate::error::Result;
use crate::store::Store;
use crate::store::page::WALK_SETUP;
use crate::store::pg::connection::{Run, unavailable};
use crate::store::pg::snapshot::Snapshot;

/// Segments of one step. They take 16 MiB at most.
const SEGMENTS_PER_STEP: i64 = 256;

/// What exports and statistics read of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSegment {
    /// Key of the segment.
    pub key: String,
    /// Number of its kind.
    pub kind: i16,
    /// Number of its status.
    pub status: i16,
    /// Time of its start. None: not known.
    pub start: Option<Duration>,
    /// Time of its end. None: not known.
    pub end: Option<Duration>,
    /// Empty: not known.
    pub speaker: String,
    /// Empty: not known.
    pub language: String,
    /// Empty: none.
    pub text: String,
}

/// Position in the segments of a session.
#[derive(Clone, Copy, Debug)]
pub struct SegmentSteps {
    session: SessionKey,
    position: StepPosition,
}

#[derive(Clone, Copy, Debug)]
enum StepPosition {
    /// Behind a segment with this start, in nanoseconds, and arrival number.
    Timed(i64, i64),
    /// Behind a segment without a start and with this arrival number.
    Untimed(i64),
    /// Behind the last segment.
    End,
}

impl SegmentSteps {
    /// The position before the first segment.
    pub fn of(session: SessionKey) -> Self {
        Self { session, position: StepPosition::Timed(-1, 0) }
    }

    /// Whether all segments were read.
    pub fn is_over(&self) -> bool {
        matches!(self.position, StepPosition::End)
    }

    /// Reads the next segments; there can be none although more follow.
    async fn step(&mut self, client: &impl Run) -> Result<Vec<ReadSegment>> {
        let SessionKey { namespace, uid } = self.session;
        let rows = match self.position {
            StepPosition::Timed(start, arrival) => {
                let sql = include_str!("../sql/timeline/timed_segments.sql");
                client.rows(sql, &[&namespace.0, &uid, &start, &arrival, &SEGMENTS_PER_STEP]).await
            }
            StepPosition::Untimed(arrival) => {
                let sql = include_str!("../sql/timeline/untimed_segments.sql");
                client.rows(sql, &[&namespace.0, &uid, &arrival, &SEGMENTS_PER_STEP]).await
            }
            StepPosition::End => return Ok(Vec::new()),
        };
        let rows = rows.map_err(|error| unavailable(&error))?;
        let is_full = i64::try_from(rows.len()).unwrap_or(i64::MAX) == SEGMENTS_PER_STEP;
        self.position = match (self.position, rows.last().filter(|_| is_full)) {
            (StepPosition::Timed(..), Some(last)) => StepPosition::Timed(last.get("start_ns"), last.get("arrival")),
            (StepPosition::Timed(..), None) => StepPosition::Untimed(0),
            (StepPosition::Untimed(_), Some(last)) => StepPosition::Untimed(last.get("arrival")),
            (StepPosition::Untimed(_) | StepPosition::End, _) => StepPosition::End,
        };
        Ok(rows.iter().map(segment).collect())
    }
}

impl Store {
    /// The version of a session. None: it does not exist.
    pub async fn session_version(&self, session: SessionKey) -> Result<Option<i64>> {
        version(&self.reads.get().await?, session).await
    }

    /// Reads the next segments of a session and moves the position behind them. Each step reads what is stored at its time.
    pub async fn next_segments(&self, steps: &mut SegmentSteps) -> Result<Vec<ReadSegment>> {
        let client = self.reads.get().await?;
        steps.step(&client).await
    }

    /// Passes all segments of a session to `take`, in order and of one snapshot. Returns the version of the session; none: it does not exist.
    pub async fn read_session(&self, session: SessionKey, mut take: impl FnMut(ReadSegment)) -> Result<Option<i64>> {
        let client = self.reads.get().await?;
        let snapshot = Snapshot::under(&client, WALK_SETUP);
        let version = version(&snapshot, session).await?;
        let mut steps = SegmentSteps::of(session);
        while version.is_some() && !steps.is_over() {
            for segment in steps.step(&snapshot).await? {
                take(segment);
                // Long texts take a while, and other calls are served by this thread too.
                tokio::task::yield_now().await;
            }
        }
        Ok(version)
    }
}

/// The version of a session. None: it does not exist.
pub(super) async fn version(client: &impl Run, session: SessionKey) -> Result<Option<i64>> {
    let sql = include_str!("../sql/timeline/session_version.sql");
    let rows = client.rows(sql, &[&session.namespace.0, &session.uid]).await.map_err(|error| unavailable(&error))?;
    Ok(rows.first().map(|row| row.get(0)))
}

fn segment(row: &Row) -> ReadSegment {
    let time = |column: &str| {
        let nanos: Option<i64> = row.get(column);
        nanos.and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos)
    };
    let text = |column: &str| row.get::<_, Option<String>>(column).unwrap_or_default();
    ReadSegment {
        key: row.get("key"),
        kind: row.get("kind"),
        status: row.get("status"),
        start: time("start_ns"),
        end: time("end_ns"),
        speaker: text("speaker"),
        language: text("language"),
        text: text("text"),
    }
}
