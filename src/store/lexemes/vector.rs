//! The vector of a text, as `segment_vector` makes it.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use postgres_types::{IsNull, ToSql, Type, to_sql_checked};

use super::Lexeme;
use crate::domain::timeline::search_language::SearchLanguage;

/// Words of a text, at most, for a vector to be made here: a lexeme has 255 positions in a vector, and two of each word.
pub(super) const MAX_WORDS: usize = 120;
/// Positions between the words as they are and their stems, so that the last word and the first stem are no phrase.
const GAP: u16 = 1_000;

/// A value of the type `tsvector`, in its binary format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchVector(Vec<u8>);

impl SearchVector {
    /// The vector of at most [`MAX_WORDS`] words: each as it is, and its stem at the positions of the same text behind the first.
    pub(super) fn of(language: SearchLanguage, words: &[(&str, Lexeme)]) -> Self {
        debug_assert!(words.len() <= MAX_WORDS, "{} words", words.len());
        let mut places: Vec<(&str, u16)> =
            words.iter().zip(1..).map(|((word, _), position)| (*word, position)).collect();
        let last = places.last().map_or(0, |(_, position)| *position);
        for ((_, lexeme), position) in words.iter().zip(last + GAP + 1..) {
            if let Lexeme::Stem(stem) = lexeme
                && language != SearchLanguage::SIMPLE
            {
                places.push((stem, position));
            }
        }
        places.sort_unstable();
        let entries = places.chunk_by(|(a, _), (b, _)| a == b);
        let mut bytes = Vec::with_capacity(4 + 16 * places.len());
        bytes.put_u32(entries.clone().count() as u32);
        for entry in entries {
            bytes.put_slice(entry[0].0.as_bytes());
            bytes.put_u8(0);
            bytes.put_u16(entry.len() as u16);
            entry.iter().for_each(|(_, position)| bytes.put_u16(*position));
        }
        Self(bytes)
    }
}

impl ToSql for SearchVector {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TS_VECTOR
    }

    to_sql_checked!();
}
