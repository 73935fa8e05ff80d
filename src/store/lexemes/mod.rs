//! Lexemes of the words of segments, so that the server makes most vectors of the search itself.
//!
//! To parse and stem a text takes Postgres a third of the time of storing the segment, and the words of texts repeat. So Postgres is asked for the
//! lexeme of each word once, and the vector is put together here. A text with a word that is not known yet, or with many words, is stored without a
//! vector; a trigger then makes the same vector with `segment_vector`.

mod vector;

use std::fmt;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;

pub use vector::SearchVector;

use crate::domain::short::Short;
use crate::domain::timeline::search_language::SearchLanguage;

/// Memory of one generation of the cache, in bytes: some 60,000 words. There are two.
const GENERATION_BYTES: usize = 8 << 20;
/// Memory of a word beside its text, in bytes.
const WORD_BYTES: usize = 128;
/// A text with a longer word is left to Postgres, so that what is kept and asked for stays small. Bytes.
const MAX_WORD_BYTES: usize = 100;
/// Words that wait to be looked up, at most. Further ones are noted when they are used again.
const MAX_UNKNOWN: usize = 2_000;

/// What the vector of a text has for a word in its language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lexeme {
    /// The stem, which may be the word itself.
    Stem(Short),
    /// Nothing but the word as it is: a stop word.
    Stop,
    /// Postgres takes the word for none or for several. The vector of a text that has it is left to Postgres.
    Irregular,
}

/// A word with its language.
pub type LanguageWord = (SearchLanguage, Short);

/// Lexemes by word and language. Words that were not used for a generation are forgotten.
#[derive(Default)]
pub struct LexemeCache {
    state: Mutex<CacheState>,
}

#[derive(Default)]
struct CacheState {
    recent: Generation,
    /// The generation before. A word that is used moves to `recent`.
    before: Generation,
    /// Words that were looked for and not found.
    unknown: HashSet<LanguageWord>,
    /// Whether a task looks words up.
    is_looking: bool,
}

#[derive(Default)]
struct Generation {
    languages: HashMap<SearchLanguage, HashMap<Short, Lexeme>>,
    bytes: usize,
}

impl LexemeCache {
    /// The vector of a text with single spaces between its words: the same as `segment_vector` returns. None: Postgres has to make it.
    pub fn vector(&self, language: SearchLanguage, words: &str) -> Option<SearchVector> {
        if words.is_empty() {
            return None;
        }
        let (mut known, mut is_known) = (Vec::new(), true);
        let mut state = self.state.lock();
        for (n, word) in words.split(' ').enumerate() {
            if n == vector::MAX_WORDS || word.len() > MAX_WORD_BYTES {
                return None;
            }
            match state.lexeme(language, word) {
                Some(Lexeme::Irregular) => return None,
                Some(lexeme) => known.push((word, lexeme)),
                None => is_known = false,
            }
        }
        drop(state);
        is_known.then(|| SearchVector::of(language, &known))
    }

    /// Begins to look words up. None: all are known, or a task does it already.
    pub fn begin_lookup(self: &Arc<Self>) -> Option<Lookup> {
        let mut state = self.state.lock();
        let begins = !state.is_looking && !state.unknown.is_empty();
        state.is_looking |= begins;
        begins.then(|| Lookup { cache: Arc::clone(self) })
    }

    /// Takes the words that were looked for and not found.
    pub fn take_unknown(&self) -> Vec<LanguageWord> {
        self.state.lock().unknown.drain().collect()
    }

    /// Adds words with their lexemes, as Postgres returned them.
    pub fn add(&self, words: impl Iterator<Item = (LanguageWord, Lexeme)>) {
        let mut state = self.state.lock();
        for ((language, word), lexeme) in words {
            state.add(language, word, lexeme);
        }
    }
}

/// Shows no words, which are those of users.
impl fmt::Debug for LexemeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LexemeCache").finish_non_exhaustive()
    }
}

/// A task that looks words up, the only one of a cache until it is dropped.
pub struct Lookup {
    cache: Arc<LexemeCache>,
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.cache.state.lock().is_looking = false;
    }
}

impl CacheState {
    /// The lexeme of a word. None: it is not known, and is noted for the next look-up.
    fn lexeme(&mut self, language: SearchLanguage, word: &str) -> Option<Lexeme> {
        if let Some(lexeme) = self.recent.get(language, word) {
            return Some(lexeme.clone());
        }
        let lexeme = self.before.get(language, word).cloned();
        match &lexeme {
            Some(lexeme) => self.add(language, word.into(), lexeme.clone()),
            None if self.unknown.len() < MAX_UNKNOWN => drop(self.unknown.insert((language, word.into()))),
            None => {}
        }
        lexeme
    }

    fn add(&mut self, language: SearchLanguage, word: Short, lexeme: Lexeme) {
        if self.recent.bytes >= GENERATION_BYTES {
            self.before = std::mem::take(&mut self.recent);
        }
        let stem_bytes = if let Lexeme::Stem(stem) = &lexeme { stem.len() } else { 0 };
        let bytes = WORD_BYTES + word.len() + stem_bytes;
        let is_new = self.recent.languages.entry(language).or_default().insert(word, lexeme).is_none();
        self.recent.bytes += if is_new { bytes } else { 0 };
    }
}

impl Generation {
    fn get(&self, language: SearchLanguage, word: &str) -> Option<&Lexeme> {
        self.languages.get(&language)?.get(word)
    }
}

#[cfg(test)]
mod tests;
