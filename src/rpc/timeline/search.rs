//! SearchSegments: words and phrases in the texts of all sessions of a namespace, best matches first.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use foldhash::HashSet;

use super::conditions::conditions;
use crate::domain::session::SessionKey;
use crate::domain::session::segment::{Segment, SegmentKey};
use crate::domain::timeline::query::{SearchCursor, SegmentSearch};
use crate::domain::timeline::search_language::SearchLanguage;
use crate::domain::timeline::search_query::{MAX_QUERY_CHARACTERS, SearchQuery};
use crate::domain::timeline::search_text::{WordKind, each_word};
use crate::domain::timeline::snippet::{Snippet, snippet};
use crate::error::{Error, Result};
use crate::proto;
use crate::proto::segment_content::Source;
use crate::rpc::caller::Caller;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::{segment as convert, text as convert_text, time};
use crate::rpc::filter;
use crate::rpc::limits;
use crate::rpc::page::{Binding, Budget};
use crate::store::timeline::FoundSegment;

/// Results of a page, where the request does not say.
const DEFAULT_RESULTS: u32 = 20;
/// Results of a page, at most.
const MAX_RESULTS: u32 = 100;

/// SearchSegments.
pub async fn search_segments(
    caller: Caller,
    request: proto::SearchSegmentsRequest,
) -> Result<proto::SearchSegmentsResponse> {
    let (search, binding) = read(&caller, request)?;
    let page = caller.services.store.search_segments(&search).await?;
    let shown = load(&caller, &page.found).await?;
    let stemmed = stemmed(&caller, &search.query, &shown).await?;
    let mut response = proto::SearchSegmentsResponse::default();
    let mut budget = Budget::new(limits::REPLY_BYTES);
    let mut last = page.found.last().filter(|_| page.has_more).map(|found| found.cursor);
    for (result, segment) in &shown {
        let message = message(result, segment, &search.query, &stemmed)?;
        // Long texts take a while, and other calls are served by this thread too.
        tokio::task::yield_now().await;
        if !budget.takes(&message) {
            break;
        }
        response.results.push(message);
    }
    if response.results.len() < shown.len() {
        last = shown.get(response.results.len().saturating_sub(1)).map(|(result, _)| result.cursor);
    }
    response.next_page_token = last.map(|last| binding.token(&last)).transpose()?.unwrap_or_default();
    Ok(response)
}

fn read(caller: &Caller, request: proto::SearchSegmentsRequest) -> Result<(SegmentSearch, Binding)> {
    let root = Path::Root;
    let bound = proto::SearchSegmentsRequest {
        page_size: 0,
        page_token: String::new(),
        max_staleness: None,
        ..request.clone()
    };
    let binding = Binding::of_message("SearchSegments", caller.namespace, &bound);
    let query = root.field("query");
    // Bytes first, so that characters of 4 MiB are not counted.
    if request.query.len() > 4 * MAX_QUERY_CHARACTERS || request.query.chars().count() > MAX_QUERY_CHARACTERS {
        return Err(query.refuse(format!("has more than {MAX_QUERY_CHARACTERS} characters")).into());
    }
    convert_text::prose::<String>(&request.query, 4 * MAX_QUERY_CHARACTERS, &query)?;
    let words = SearchQuery::parse(&request.query);
    let words =
        words.ok_or_else(|| query.refuse("has no word that has to occur: a letter or digit, not behind a minus"))?;
    let moment = |given: &Option<prost_types::Timestamp>, field: &'static str| {
        given.as_ref().map(|given| time::parse_timestamp(given, &root.field(field))).transpose()
    };
    let (from, until) = (moment(&request.start_time, "start_time")?, moment(&request.end_time, "end_time")?);
    let limit = match u32::try_from(request.page_size) {
        Ok(0) => DEFAULT_RESULTS,
        Ok(size) => size.min(MAX_RESULTS),
        Err(_) => return Err(root.field("page_size").outside("0 or more", request.page_size).into()),
    };
    let after: Option<SearchCursor> = binding.cursor(&request.page_token)?;
    if after.is_some_and(|after| !after.rank.is_finite() || after.arrival < 1) {
        return Err(Error::InvalidCursor { path: "page_token", why: "is not a page token" });
    }
    let search = SegmentSearch {
        namespace: caller.namespace,
        query: words,
        sessions: filter::sessions(&request.filter)?,
        conditions: conditions(&request.kinds, &request.languages, request.speakers)?,
        from,
        until,
        after,
        limit,
    };
    Ok((search, binding))
}

/// The segments that were found, in order. One that was deleted meanwhile is left out.
async fn load<'f>(caller: &Caller, found: &'f [FoundSegment]) -> Result<Vec<(&'f FoundSegment, Arc<Segment>)>> {
    let key = |found: &FoundSegment| SegmentKey {
        session: SessionKey { namespace: caller.namespace, uid: found.session_uid },
        key: found.key.as_str().into(),
    };
    let keys: Vec<SegmentKey> = found.iter().map(key).collect();
    let mut segments = caller.services.store.segments(&keys).await?;
    let of_result = |(found, key): (&'f FoundSegment, &SegmentKey)| {
        let segment = segments.remove(key).filter(|segment| !segment.is_deleted())?;
        Some((found, segment))
    };
    Ok(found.iter().zip(&keys).filter_map(of_result).collect())
}

/// The words of the texts that match as their languages stem them, each with its configuration. Asked word by word and not text by text: marking
/// a long text costs Postgres more than finding it.
async fn stemmed(
    caller: &Caller,
    query: &SearchQuery,
    shown: &[(&FoundSegment, Arc<Segment>)],
) -> Result<HashSet<(String, String)>> {
    let mut words: HashSet<(&str, String)> = HashSet::default();
    for (found, segment) in shown {
        if found.config != SearchLanguage::SIMPLE.name() {
            each_word(text(segment), |word| {
                if word.kind == WordKind::Run {
                    words.insert((&found.config, word.text));
                }
                true
            });
            tokio::task::yield_now().await;
        }
    }
    if words.is_empty() {
        return Ok(HashSet::default());
    }
    let (configs, words): (Vec<&str>, Vec<&str>) = words.iter().map(|(config, word)| (*config, word.as_str())).unzip();
    let wanted = query.exact.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    caller.services.store.matching_words(&configs, &words, &wanted).await
}

fn text(segment: &Segment) -> &str {
    segment.body.text.as_deref().unwrap_or_default()
}

fn message(
    found: &FoundSegment,
    segment: &Segment,
    query: &SearchQuery,
    stemmed: &HashSet<(String, String)>,
) -> Result<proto::SearchResult> {
    let is_stemmed = |word: &str| stemmed.contains(&(found.config.clone(), word.to_owned()));
    let Snippet { text, matches } = snippet(text(segment), &matches(text(segment), &query.exact, is_stemmed));
    let mut shown = convert::segment_to_proto(segment)?;
    (shown.words, shown.metadata) = (Vec::new(), None);
    if let Some(content) = &mut shown.content {
        content.source = content.source.take().filter(|source| matches!(source, Source::Uri(_)));
    }
    let character = |at: usize| i32::try_from(at).unwrap_or(i32::MAX);
    let matches = matches
        .into_iter()
        .map(|Range { start, end }| proto::SnippetMatch { start: character(start), end: character(end) });
    Ok(proto::SearchResult {
        segment: Some(shown),
        session_id: found.session_id.clone(),
        rank: found.cursor.rank.into(),
        snippet: text,
        matches: matches.collect(),
    })
}

/// The bytes of a text that match.
fn matches(text: &str, exact: &BTreeSet<String>, is_stemmed: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut matches = Vec::new();
    each_word(text, |word| {
        // Letters of scripts without spaces are marked as the query has them: together.
        if exact.contains(&word.text) || word.kind == WordKind::Run && is_stemmed(&word.text) {
            matches.push(word.range);
        }
        true
    });
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_match_as_they_are_and_by_their_stem() {
        let query = SearchQuery::parse("run 東京 the").expect("words");
        let text = "The man is Running in 東京都, not 京都";
        let found: Vec<&str> =
            matches(text, &query.exact, |word| word == "running").into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["The", "Running", "東京"]);
    }
}
