//! QueryTimeline: the query as SQL.

use crate::domain::session::segment::Segment;
use crate::domain::timeline::query::{TimelineCursor, TimelineQuery, UntimedChoice};
use crate::error::Result;
use crate::store::Store;
use crate::store::page::{PageParts, PageQuery, Values, WALK_SETUP, behind};
use crate::store::pg::snapshot::Snapshot;
use crate::store::session::load::segment;

use super::conditions::conditions;
use super::rows::version;

/// Segments that a page reads, at most. They lie next to each other, as they arrived, so more can be read than of other lists.
pub(in crate::store) const MAX_SEGMENTS_LOOKED_AT: i64 = 10_000;

/// Bytes of segments after which a page ends. A response takes no more.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// What is read of a segment.
const COLUMNS: &str = "g.namespace_id, g.session_uid, g.key, g.arrival, g.version, g.kind, g.status, g.sequence, g.parent_key, g.start_ns, g.end_ns, \
    g.speaker, g.language, g.text, g.words, g.confidence, g.content, g.inline_data, g.metadata, g.create_time, g.update_time, g.delete_time";

/// A part of the order of a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum TimelineSection {
    /// Segments with a start, by start and arrival.
    Timed,
    /// Segments without, by arrival.
    Untimed,
}

/// Page of a timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelinePage {
    /// Version of the session at which the page was read.
    pub session_version: i64,
    /// The segments in order. There can be fewer than the limit although more match.
    pub segments: Vec<Segment>,
    /// Position after which the next page starts. None: this is the last page.
    pub next: Option<TimelineCursor>,
}

impl Store {
    /// A page of the segments of a session, of one snapshot. None: the session does not exist.
    pub async fn query_timeline(&self, query: &TimelineQuery) -> Result<Option<TimelinePage>> {
        let client = self.reads.get().await?;
        read_page(&Snapshot::under(&client, WALK_SETUP), query).await
    }
}

async fn read_page(snapshot: &Snapshot<'_>, query: &TimelineQuery) -> Result<Option<TimelinePage>> {
    let limit = query.limit as usize;
    let Some((first, others)) = sections(query).split_first() else {
        let version = version(snapshot, query.session).await?;
        return Ok(version.map(|session_version| TimelinePage { session_version, segments: Vec::new(), next: None }));
    };
    let first = walk(query, *first, query.after, limit);
    let (version, first) = futures::try_join!(version(snapshot, query.session), first.rows(snapshot))?;
    let Some(session_version) = version else { return Ok(None) };
    let mut page = TimelinePage { session_version, segments: Vec::new(), next: None };
    let (mut rows, mut others) = (first, others.iter());
    loop {
        // The bytes of a page are used up.
        let is_cut = rows.first().is_some_and(|row| row.get::<_, i64>("found") > rows.len() as i64);
        for row in rows {
            let segment = segment(&row);
            let (matches, is_last): (bool, bool) = (row.get("matches"), row.get("is_last"));
            if matches && page.segments.len() == limit {
                page.next = page.segments.last().map(TimelineCursor::of);
                return Ok(Some(page));
            }
            let next = is_last.then(|| TimelineCursor::of(&segment));
            if matches {
                page.segments.push(segment);
            }
            if next.is_some() {
                page.next = next;
                return Ok(Some(page));
            }
        }
        if is_cut {
            page.next = page.segments.last().map(TimelineCursor::of);
            return Ok(Some(page));
        }
        let Some(section) = others.next() else { return Ok(Some(page)) };
        rows = walk(query, *section, None, limit - page.segments.len()).rows(snapshot).await?;
    }
}

/// The sections of the order that are read, from that of the cursor on.
fn sections(query: &TimelineQuery) -> &'static [TimelineSection] {
    let is_timed = query.after.is_none_or(|after| after.start_ns.is_some());
    match (query.untimed, is_timed) {
        (UntimedChoice::Include, true) => &[TimelineSection::Timed, TimelineSection::Untimed],
        (UntimedChoice::Exclude, true) => &[TimelineSection::Timed],
        (UntimedChoice::Include, false) | (UntimedChoice::Only, _) => &[TimelineSection::Untimed],
        // No token of such a query leads there.
        (UntimedChoice::Exclude, false) => &[],
    }
}

/// A walk along the index of the order, within one section.
pub(in crate::store) fn walk(
    query: &TimelineQuery,
    section: TimelineSection,
    after: Option<TimelineCursor>,
    limit: usize,
) -> PageQuery {
    let mut values = Values::default();
    let (namespace, session) = (values.bind(query.session.namespace.0), values.bind(query.session.uid));
    // Each of the two indexes begins with an expression of its own.
    let in_session = |sign: char| {
        format!("g.namespace_id {sign} 0 = {namespace} AND g.session_uid = {session} AND g.delete_time IS NULL")
    };
    let mut source = "SELECT {columns} FROM segments g WHERE {range}".to_owned();
    let mut range = String::new();
    let mut filter = conditions(&query.conditions, &mut values);
    let is_plain = filter.is_empty();
    match section {
        TimelineSection::Timed => {
            range += " AND g.start_ns IS NOT NULL";
            if let Some(end) = query.end_ns {
                range += &format!(" AND g.start_ns < {}::bigint", values.bind(end));
            }
            if let Some(TimelineCursor { start_ns: Some(start), arrival }) = after {
                let at = [values.bind(start), values.bind(arrival)];
                range += &format!(" AND {}", behind(&["g.start_ns", "g.arrival"], &at, false));
            }
            if let Some(start) = query.start_ns {
                let start = values.bind(start);
                source = include_str!("../sql/timeline/part/segments_from.sql")
                    .replace("{lasting}", &(in_session('-') + &range))
                    .replace("{start}", &start);
                // A moment without length at the beginning of the range lies within.
                filter
                    .push(format!("(g.end_ns IS NULL OR g.end_ns > {start}::bigint OR g.start_ns >= {start}::bigint)"));
            }
        }
        TimelineSection::Untimed => {
            range += " AND g.start_ns IS NULL";
            if let Some(TimelineCursor { start_ns: None, arrival }) = after {
                range += &format!(" AND g.arrival > {}::bigint", values.bind(arrival));
            }
        }
    }
    let range = in_session('+') + &range;
    let order: &[&str] = &["g.start_ns", "g.arrival"];
    let parts = PageParts { range, filter, order, descending: false, most: MAX_SEGMENTS_LOOKED_AT, limit, is_plain };
    let template = include_str!("../sql/timeline/pages/query_timeline.sql")
        .replace("{source}", &source)
        .replace("{columns}", COLUMNS)
        .replace("{bytes}", &MAX_PAGE_BYTES.to_string());
    PageQuery::of(&template, parts, values)
}
