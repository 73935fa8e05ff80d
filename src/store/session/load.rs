//! Loads of sessions and of single segments.

use std::sync::{Arc, LazyLock};

use foldhash::HashMap;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::id::NamespaceId;
use crate::domain::json::Document;
use crate::domain::session::recent::RecentChanges;
use crate::domain::session::segment::{Content, Segment, SegmentBody, SegmentKey, SegmentKind, SegmentStatus, Word};
use crate::domain::session::{Session, SessionKey, SessionMeta, SessionState};
use crate::domain::short::Short;
use crate::store::load::{micros, parsed};
use crate::store::pg::connection::{DbResult, Run};
use crate::store::pg::types::JsonText;
use crate::store::table::SESSIONS;

/// Loads sessions. One of `known` that has not changed is returned as it is. Missing ones are absent.
pub async fn sessions(
    client: &impl Run,
    keys: &[SessionKey],
    known: &HashMap<SessionKey, Arc<Session>>,
) -> DbResult<HashMap<SessionKey, Arc<Session>>> {
    let (namespaces, uids) = columns(keys);
    let rows = client.rows(include_str!("../sql/session/load_sessions.sql"), &[&namespaces, &uids]).await?;
    let of_row = |row: &Row| {
        let session = session(row);
        let is_same =
            |known: &&Arc<Session>| (known.version, known.create_time) == (session.version, session.create_time);
        // It knows its last changes.
        let known = known.get(&session.key).filter(is_same).cloned();
        (session.key, known.unwrap_or_else(|| Arc::new(session)))
    };
    Ok(rows.iter().map(of_row).collect())
}

/// The session of a row with its columns.
pub(in crate::store) fn session(row: &Row) -> Session {
    let key = SessionKey { namespace: NamespaceId(row.get("namespace_id")), uid: row.get("session_uid") };
    let labels: Option<JsonText> = row.get("labels");
    let meta = SessionMeta {
        title: row.get::<_, Option<&str>>("title").map(Into::into),
        labels: Arc::new(labels.map(|text| parsed(&text)).unwrap_or_default()),
        retention: micros(row.get("retention_us")),
    };
    let mut session = Session::new(key, row.get::<_, &str>("session_id").into(), meta, row.get("create_time"));
    session.state = SessionState::from_number(row.get("state")).expect("a check of the table");
    session.version = row.get("version");
    session.segment_count = row.get("segment_count");
    session.arrivals = row.get("arrivals");
    session.update_time = row.get("update_time");
    session.end_time = row.get("end_time");
    session.expire_time = row.get("expire_time");
    session.recent = RecentChanges::since(session.version);
    session
}

/// Loads segments, deleted ones too. Those that never were are absent.
pub async fn segments(client: &impl Run, keys: &[SegmentKey]) -> DbResult<HashMap<SegmentKey, Arc<Segment>>> {
    let namespaces: Vec<i32> = keys.iter().map(|key| key.session.namespace.0).collect();
    let uids: Vec<Uuid> = keys.iter().map(|key| key.session.uid).collect();
    let names: Vec<&str> = keys.iter().map(|key| &*key.key).collect();
    let rows = client.rows(include_str!("../sql/session/load_segments.sql"), &[&namespaces, &uids, &names]).await?;
    Ok(rows.iter().map(segment).map(|segment| (segment.key.clone(), Arc::new(segment))).collect())
}

/// The segment of a row with its columns.
pub(in crate::store) fn segment(row: &Row) -> Segment {
    let session = SessionKey { namespace: NamespaceId(row.get("namespace_id")), uid: row.get("session_uid") };
    let status = match row.get::<_, i16>("status") {
        1 => SegmentStatus::Interim,
        _ => SegmentStatus::Final,
    };
    Segment {
        key: SegmentKey { session, key: row.get::<_, &str>("key").into() },
        arrival: row.get("arrival"),
        version: row.get("version"),
        kind: SegmentKind::from_number(row.get::<_, i16>("kind").into()).expect("a check of the table"),
        status,
        sequence: row.get("sequence"),
        body: body(row),
        create_time: row.get("create_time"),
        update_time: row.get("update_time"),
        delete_time: row.get("delete_time"),
    }
}

fn body(row: &Row) -> SegmentBody {
    let short = |column: &str| row.get::<_, Option<&str>>(column).map(Short::from);
    let words: Option<Vec<StoredWord>> = row.get::<_, Option<&str>>("words").map(read_back);
    let content: Option<StoredContent> = row.get::<_, Option<&str>>("content").map(read_back);
    SegmentBody {
        parent_key: short("parent_key"),
        start_ns: row.get("start_ns"),
        end_ns: row.get("end_ns"),
        speaker: short("speaker"),
        language: short("language"),
        text: row.get::<_, Option<&str>>("text").map(Into::into),
        words: words.map(|words| words.into_iter().map(StoredWord::word).collect()),
        confidence: row.get("confidence"),
        content: content.map(|content| content.content(row.get("inline_data"))),
        metadata: row.get::<_, Option<&str>>("metadata").map(Document::from_checked),
    }
}

fn read_back<'r, T: Deserialize<'r>>(text: &'r str) -> T {
    serde_json::from_str(text).expect("we read back what we wrote")
}

/// A word as its row has it: `[text, start_ns, end_ns, confidence]`.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredWord(String, Option<i64>, Option<i64>, Option<f64>);

impl StoredWord {
    pub(super) fn of(word: &Word) -> Self {
        Self(word.text.to_string(), word.start_ns, word.end_ns, word.confidence)
    }

    fn word(self) -> Word {
        Word { text: self.0.into(), start_ns: self.1, end_ns: self.2, confidence: self.3 }
    }
}

/// A recording as its row has it, without its data.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredContent {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size_bytes: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
}

impl StoredContent {
    pub(super) fn of(content: &Content) -> Self {
        let text = |short: &Option<Short>| short.as_ref().map(ToString::to_string);
        let Content { uri, size_bytes, sha256, media_type, .. } = content;
        Self { uri: text(uri), size_bytes: *size_bytes, sha256: text(sha256), media_type: text(media_type) }
    }

    fn content(self, inline_data: Option<&[u8]>) -> Content {
        let Self { uri, size_bytes, sha256, media_type } = self;
        let (uri, sha256, media_type) = (uri.map(Short::from), sha256.map(Short::from), media_type.map(Short::from));
        Content { uri, inline_data: inline_data.map(Into::into), size_bytes, sha256, media_type }
    }
}

/// The statements that lock sessions: the one that fails where a session is locked, and the one that waits.
static LOCK: LazyLock<[String; 2]> = LazyLock::new(|| [false, true].map(|wait| SESSIONS.lock_statement(wait)));

/// Locks sessions in key order. Where another transaction has locked one, it waits or fails.
pub async fn lock_sessions(client: &impl Run, keys: &[SessionKey], wait: bool) -> DbResult<()> {
    let (namespaces, uids) = columns(keys);
    client.rows(&LOCK[usize::from(wait)], &[&namespaces, &uids]).await?;
    Ok(())
}

pub(super) fn columns(keys: &[SessionKey]) -> (Vec<i32>, Vec<Uuid>) {
    keys.iter().map(|key| (key.namespace.0, key.uid)).unzip()
}
