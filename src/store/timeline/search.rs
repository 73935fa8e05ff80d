//! SearchSegments: the search as SQL, and the words that matched.
//!
//! A word that few texts have is found by the index of words. Of one that many have, the index would return most of the namespace; there, segments
//! are compared one by one until enough were looked at. Which it is the planner knows from the statistics of the column.

use std::time::Instant;

use foldhash::HashSet;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::conditions::conditions;
use super::stemmed_query::StemmedQuery;
use crate::domain::query::{Comparison, Test};
use crate::domain::session::SessionKey;
use crate::domain::session::query::SessionClause;
use crate::domain::timeline::query::{SearchCursor, SegmentSearch};
use crate::error::Result;
use crate::store::Store;
use crate::store::lexemes::Lexeme;
use crate::store::page::{PageQuery, Values};
use crate::store::pg::connection::{Run, unavailable};
use crate::store::pg::snapshot::Snapshot;
use crate::store::pg::types::JsonText;
use crate::store::session::list::condition as session_condition;

/// Segments found by their words that are looked at, at most: those that were stored first.
const MAX_FOUND: i64 = 50_000;
/// Segments looked at one by one, at most, in the order of sessions and keys.
const MAX_WALKED: i64 = 10_000;
/// Segments that match a search and are ranked, at most.
const MAX_RANKED: i64 = 1_000;
/// Segments are looked at one by one if at least one of so many has the words.
const FREQUENT: f64 = 1.0 / 50.0;

/// Settings of a search: the index is used whatever statistics the planner has, and no notice tells of words that a language does not count.
pub(in crate::store) const SEARCH_SETUP: &str =
    "SET LOCAL enable_seqscan = off; SET LOCAL client_min_messages = warning";
/// Further settings where the index of words is not used.
const WALK_SETUP: &str = "SET LOCAL enable_bitmapscan = off";

/// How the segments that may match are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum SegmentAccess {
    /// By the index of words.
    ByWords,
    /// One by one, because many have the words.
    OneByOne,
}

impl SegmentAccess {
    /// Settings of the transaction beside [`SEARCH_SETUP`]. None: there are none.
    pub(in crate::store) fn further_setup(self) -> Option<&'static str> {
        match self {
            Self::ByWords => None,
            Self::OneByOne => Some(WALK_SETUP),
        }
    }

    /// Segments that are looked at, at most.
    pub(in crate::store) fn most(self) -> i64 {
        match self {
            Self::ByWords => MAX_FOUND,
            Self::OneByOne => MAX_WALKED,
        }
    }
}

/// A segment that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundSegment {
    /// Uid of its session.
    pub session_uid: Uuid,
    /// Id of its session.
    pub session_id: String,
    /// Key of the segment.
    pub key: String,
    /// Position in the order of the search.
    pub cursor: SearchCursor,
    /// Name of the configuration that stems its words.
    pub config: String,
}

/// Page of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchPage {
    /// Segments, best first.
    pub found: Vec<FoundSegment>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Store {
    /// A page of the segments that match a search, best first.
    pub async fn search_segments(&self, search: &SegmentSearch) -> Result<SearchPage> {
        let client = self.reads.get().await?;
        let snapshot = Snapshot::under(&client, SEARCH_SETUP);
        let words = StemmedQuery::read(&snapshot, &search.query).await?;
        let access = match search.after {
            // The planner may have learned since the first page; the order of the pages is of one kind.
            Some(SearchCursor { one_by_one: true, .. }) => SegmentAccess::OneByOne,
            Some(_) => SegmentAccess::ByWords,
            None => access(&snapshot, search, &words).await?,
        };
        let (rows, one_by_one) = (found(&snapshot, search, &words, access).await?, access == SegmentAccess::OneByOne);
        let limit = search.limit as usize;
        let results = rows.iter().take(limit).map(|row| {
            let session_uid = row.get("session_uid");
            let (rank, arrival) = (row.get("rank"), row.get("arrival"));
            let cursor = SearchCursor { rank, session_uid, arrival, one_by_one };
            FoundSegment {
                session_uid,
                session_id: row.get("session_id"),
                key: row.get("key"),
                cursor,
                config: row.get("search_config"),
            }
        });
        Ok(SearchPage { found: results.collect(), has_more: rows.len() > limit })
    }

    /// Looks up the words of segments that were not known, in a task of its own, unless one does it already.
    pub fn look_words_up(&self) {
        let Some(lookup) = self.lexemes.begin_lookup() else { return };
        let store = self.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            if let Err(error) = store.learn_lexemes().await {
                tracing::debug!(%error, "words were not looked up");
            }
            // Texts of nothing but new words cost no more than a quarter of a connection.
            tokio::time::sleep(began.elapsed() * 3).await;
            drop(lookup);
        });
    }

    /// Asks the database for the lexemes of words that were not known. Returns how many they were.
    pub(in crate::store) async fn learn_lexemes(&self) -> Result<usize> {
        let words = self.lexemes.take_unknown();
        if words.is_empty() {
            return Ok(0);
        }
        let configs: Vec<&str> = words.iter().map(|(language, _)| language.name()).collect();
        let texts: Vec<&str> = words.iter().map(|(_, word)| word.as_str()).collect();
        let rows = self.background(include_str!("../sql/timeline/learn_lexemes.sql"), &[&configs, &texts]).await?;
        self.lexemes.add(words.iter().cloned().zip(rows.iter().map(lexeme)));
        Ok(words.len())
    }

    /// Of words, each with the configuration of its text, those that are one of the words in `wanted` as this configuration stems them.
    pub async fn matching_words(
        &self,
        configs: &[&str],
        words: &[&str],
        wanted: &str,
    ) -> Result<HashSet<(String, String)>> {
        let client = self.reads.get().await?;
        let rows = client.rows(include_str!("../sql/timeline/matching_words.sql"), &[&configs, &words, &wanted]).await;
        Ok(rows.map_err(|error| unavailable(&error))?.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// What the vector of a text has for the word of a row.
fn lexeme(row: &Row) -> Lexeme {
    let stems: Vec<&str> = row.get("stems");
    match (row.get("is_regular"), &*stems) {
        (true, []) => Lexeme::Stop,
        (true, [stem]) => Lexeme::Stem((*stem).into()),
        _ => Lexeme::Irregular,
    }
}

/// How segments are found, by the planner's estimate of how many have the words.
pub(in crate::store) async fn access(
    snapshot: &Snapshot<'_>,
    search: &SegmentSearch,
    words: &StemmedQuery,
) -> Result<SegmentAccess> {
    let mut values = Values::default();
    let (range, matching) = (range(search, &mut values), has_words(words, &mut values));
    let sql = format!(
        "EXPLAIN (FORMAT JSON) SELECT 1 FROM segments g WHERE {range} AND {matching} UNION ALL SELECT 1 FROM segments g WHERE {range}"
    );
    let plan: Option<JsonText> =
        (PageQuery { sql, values, is_kept: false }).rows(snapshot).await?.first().map(|row| row.get(0));
    let plan: Value = plan.and_then(|plan| serde_json::from_str(&plan.0).ok()).unwrap_or_default();
    let rows = |part: usize| plan[0]["Plan"]["Plans"][part]["Plan Rows"].as_f64().unwrap_or_default();
    let (matching, all) = (rows(0), rows(1));
    Ok(if matching > MAX_FOUND as f64 && matching > all * FREQUENT {
        SegmentAccess::OneByOne
    } else {
        SegmentAccess::ByWords
    })
}

/// The rows of a page.
pub(in crate::store) async fn found(
    snapshot: &Snapshot<'_>,
    search: &SegmentSearch,
    words: &StemmedQuery,
    access: SegmentAccess,
) -> Result<Vec<Row>> {
    let statement = statement(search, words, access);
    let set = async {
        let Some(setup) = access.further_setup() else { return Ok(()) };
        snapshot.run(setup).await.map_err(|error| unavailable(&error))
    };
    let ((), rows) = futures::try_join!(set, statement.rows(snapshot))?;
    Ok(rows)
}

/// The condition that a segment has the words in any language, which the index knows.
fn has_words(words: &StemmedQuery, values: &mut Values) -> String {
    format!("g.search_vector @@ {}::text::tsquery", values.bind(words.in_any_language()))
}

/// The statement of a page.
pub(in crate::store) fn statement(search: &SegmentSearch, words: &StemmedQuery, access: SegmentAccess) -> PageQuery {
    let mut values = Values::default();
    let (configs, wanted) = (values.bind(words.configs.clone()), values.bind(words.wanted.clone()));
    let mut filter = conditions(&search.conditions, &mut values);
    if let Some(unwanted) = &words.unwanted {
        let unwanted = values.bind(unwanted.clone());
        filter.push(format!(
            "NOT g.search_vector @@ ({unwanted}::text[]::tsquery[])[array_position({configs}::text[], g.search_config)]"
        ));
    }
    filter.extend(search.from.map(|from| format!("g.create_time >= {}::timestamptz", values.bind(from))));
    filter.extend(search.until.map(|until| format!("g.create_time < {}::timestamptz", values.bind(until))));
    filter.extend(search.sessions.iter().map(|clause| session_condition(clause, &mut values)));
    let after = search.after.map_or("true".to_owned(), |SearchCursor { rank, session_uid, arrival, .. }| {
        let (rank, session, arrival) = (values.bind(rank), values.bind(session_uid), values.bind(arrival));
        format!("(r.rank < {rank} OR r.rank = {rank} AND (r.session_uid, r.arrival) > ({session}, {arrival}))")
    });
    let mut range = range(search, &mut values);
    if access == SegmentAccess::ByWords {
        range += &format!(" AND g.search_vector IS NOT NULL AND {}", has_words(words, &mut values));
    }
    let sql = include_str!("../sql/timeline/pages/search_segments.sql")
        .replace("{wanted}", &wanted)
        .replace("{configs}", &configs)
        .replace("{range}", &range)
        .replace("{filter}", &if filter.is_empty() { "true".to_owned() } else { filter.join(" AND ") })
        .replace("{after}", &after)
        .replace("{most}", &access.most().to_string())
        .replace("{ranked}", &MAX_RANKED.to_string())
        .replace("{limit}", &values.bind(i64::from(search.limit) + 1));
    PageQuery { sql, values, is_kept: false }
}

/// The namespace, and the sessions if the search names them: then others are not looked at.
fn range(search: &SegmentSearch, values: &mut Values) -> String {
    let mut range = format!("g.namespace_id = {}", values.bind(search.namespace.0));
    for clause in &search.sessions {
        if let SessionClause::SessionId(tests) = clause
            && tests.iter().all(|test| test.comparison == Comparison::Equal)
        {
            let uid = |test: &Test<String>| SessionKey::of(search.namespace, &test.value).uid;
            let uids: Vec<Uuid> = tests.iter().map(uid).collect();
            range += &format!(" AND g.session_uid = ANY({}::uuid[])", values.bind(uids));
        }
    }
    range
}
