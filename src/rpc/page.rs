//! Pages: their size, and the opaque tokens that continue a list.
//!
//! **Invariants.** A token continues exactly the query it came from: it carries a digest of that query, and what is
//! not of ours, or of another query, is refused. It proves nothing else: what is in it only says where to go on within what the
//! caller may read anyway, and `list` checks that before it is used.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::convert::path::Path;
use super::limits::{DEFAULT_PAGE_SIZE, PAGE_SIZE};
use crate::domain::id::NamespaceId;
use crate::domain::refusal::Refusal;
use crate::error::{Error, Result};

/// The longest token we make is well below this; a longer one is not looked at.
const MAX_TOKEN: usize = 1_024;
/// How many bytes of the query's digest a token carries: enough that no two queries meet by chance.
const BINDING: usize = 8;

/// The number of items of a page: what was asked for within 1 to 1,000, and 50 if nothing was.
pub fn size(page_size: i32) -> std::result::Result<u32, Refusal> {
    match u32::try_from(page_size) {
        Ok(0) => Ok(DEFAULT_PAGE_SIZE),
        Ok(size) => Ok(size.min(PAGE_SIZE)),
        Err(_) => Err(Path::Root.field("page_size").outside("0 or more", page_size)),
    }
}

/// The query that a page token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding([u8; BINDING]);

impl Binding {
    /// The query of an rpc: all its fields but for size and token of the page, as the caller wrote them.
    pub fn of(rpc: &str, namespace: NamespaceId, fields: &[&str]) -> Self {
        let mut sha = Sha256::new();
        sha.update(namespace.0.to_be_bytes());
        for field in [rpc].iter().chain(fields) {
            // With its length, so that two fields cannot be mistaken for two others.
            sha.update((field.len() as u64).to_be_bytes());
            sha.update(field.as_bytes());
        }
        let mut digest = [0; BINDING];
        digest.copy_from_slice(&sha.finalize()[..BINDING]);
        Self(digest)
    }

    /// The query of an rpc with many fields: its request without size and token of the page.
    pub fn of_message(rpc: &str, namespace: NamespaceId, request: &impl Message) -> Self {
        let encoded = URL_SAFE_NO_PAD.encode(request.encode_to_vec());
        Self::of(rpc, namespace, &[&encoded])
    }

    /// The token that continues this query behind a cursor.
    pub fn token(self, cursor: &impl Serialize) -> Result<String> {
        let cursor = serde_json::to_vec(cursor).map_err(|error| Error::bug(format_args!("a cursor: {error}")))?;
        Ok(URL_SAFE_NO_PAD.encode([&self.0[..], &cursor].concat()))
    }

    /// The cursor of a token; `None` if there is no token.
    pub fn cursor<C: DeserializeOwned>(self, token: &str) -> Result<Option<C>> {
        let refuse = |why| Error::InvalidCursor { path: "page_token", why };
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = (token.len() <= MAX_TOKEN).then(|| URL_SAFE_NO_PAD.decode(token).ok()).flatten();
        let bytes = bytes.ok_or_else(|| refuse("is not a page token"))?;
        let (binding, cursor) = bytes.split_first_chunk().ok_or_else(|| refuse("is not a page token"))?;
        if *binding != self.0 {
            return Err(refuse(
                "is of another query: all fields but page_size must be as in the request that returned it",
            ));
        }
        serde_json::from_slice(cursor).map(Some).map_err(|_| refuse("is not a page token"))
    }
}

/// How much more fits into a reply.
#[derive(Debug)]
pub struct Budget {
    left: usize,
    first: bool,
}

impl Budget {
    /// A reply with room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { left: bytes, first: true }
    }

    /// Whether an element of a list still fits; if so, its room is taken. The first always does, since a
    /// page without any would never end.
    pub fn takes(&mut self, message: &impl Message) -> bool {
        let bytes = message.encoded_len();
        // A tag of at most two bytes, and the length.
        let bytes = bytes + 2 + prost::length_delimiter_len(bytes);
        let fits = self.first || bytes <= self.left;
        self.left = self.left.saturating_sub(bytes);
        self.first = false;
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::query::JobCursor;

    fn cursor() -> JobCursor {
        JobCursor { value: Some(i64::MAX), created: Some(i64::MAX), job_id: "x".repeat(128) }
    }

    #[test]
    fn sizes_have_a_default_and_a_limit() {
        assert_eq!([0, 1, 1_000, 1_001, i32::MAX].map(size), [Ok(50), Ok(1), Ok(1_000), Ok(1_000), Ok(1_000)]);
        assert!(size(-1).is_err());
    }

    #[test]
    fn a_token_continues_its_own_query_only() {
        let mine = Binding::of("ListJobs", NamespaceId(1), &["state = RUNNING", ""]);
        let token = mine.token(&cursor()).expect("a token");
        assert!(token.len() <= MAX_TOKEN);
        assert_eq!(mine.cursor(&token), Ok(Some(cursor())));
        assert_eq!(mine.cursor::<JobCursor>(""), Ok(None));
        for other in [
            Binding::of("ListJobs", NamespaceId(2), &["state = RUNNING", ""]),
            Binding::of("ListStages", NamespaceId(1), &["state = RUNNING", ""]),
            Binding::of("ListJobs", NamespaceId(1), &["", "state = RUNNING"]),
            Binding::of("ListJobs", NamespaceId(1), &["state = RUNNING"]),
        ] {
            assert!(matches!(other.cursor::<JobCursor>(&token), Err(Error::InvalidCursor { path: "page_token", .. })));
        }
    }

    #[test]
    fn garbage_is_refused() {
        let mine = Binding::of("ListJobs", NamespaceId(1), &[]);
        let cut = mine.token(&cursor()).expect("a token");
        let bare = mine.token(&7).expect("a token");
        for bad in ["!", "AAAA", &"A".repeat(12), &"A".repeat(1_000_000), &cut[..cut.len() - 4], &bare, "ü"] {
            assert!(matches!(mine.cursor::<JobCursor>(bad), Err(Error::InvalidCursor { .. })), "{bad:.20}");
        }
    }

    #[test]
    fn a_budget_takes_what_fits_and_the_first_in_any_case() {
        let text = |length: usize| "x".repeat(length);
        let mut budget = Budget::new(100);
        assert!(budget.takes(&text(40)) && budget.takes(&text(40)) && !budget.takes(&text(40)));
        assert!(Budget::new(0).takes(&text(40)));
    }
}
