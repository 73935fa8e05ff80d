//! The rows of timelines.

use postgres_types::ToSql;
use uuid::Uuid;

use super::{Cell, Columns};
use crate::domain::short::Short;
use crate::domain::time::Timestamp;
use crate::store::lexemes::SearchVector;
use crate::store::pg::types::JsonText;
use crate::store::table::Column;

columns!(
    /// A new session.
    Sessions of SessionRow {
        namespace_id: i32, session_uid: Uuid, session_id: String, title: Option<String>, labels: Option<JsonText> as jsonb,
        state: i16, version: i64, segment_count: i64, arrivals: i64, retention_us: i64,
        create_time: Timestamp, update_time: Timestamp, end_time: Option<Timestamp>, expire_time: Option<Timestamp>,
    }
);
columns!(
    /// A changed session. None: the value stays. An empty title: there is none any more.
    ChangedSessions of ChangedSession {
        namespace_id: i32, session_uid: Uuid, version: i64, segment_count: i64, arrivals: i64, update_time: Timestamp,
        state: Option<i16>, title: Option<String>, labels: Option<JsonText> as jsonb, retention_us: Option<i64>,
        end_time: Option<Timestamp>, expire_time: Option<Timestamp>,
    }
);
columns!(
    /// The key of a segment.
    SegmentIds of SegmentId { namespace_id: i32, session_uid: Uuid, key: Short }
);
columns!(
    /// A segment at the version that was read.
    SegmentVersions of SegmentVersion {
        namespace_id: i32, session_uid: Uuid, key: Short, version: i64, create_time: Timestamp,
    }
);
columns!(
    /// A segment, new or changed. `search_vector`: none where the database makes it.
    Segments of SegmentRow {
        namespace_id: i32, session_uid: Uuid, key: Short, arrival: i64, version: i64, kind: i16, status: i16, sequence: i64,
        parent_key: Option<Short>, start_ns: Option<i64>, end_ns: Option<i64>, speaker: Option<Short>,
        language: Option<Short>, text: Option<String>, words: Option<JsonText> as text, confidence: Option<f64>,
        content: Option<JsonText> as text, inline_data: Option<Vec<u8>>, metadata: Option<JsonText> as text,
        create_time: Timestamp, update_time: Timestamp, delete_time: Option<Timestamp>,
        search_config: Option<String>, search_text: Option<String>, search_vector: Option<SearchVector>,
    }
);
