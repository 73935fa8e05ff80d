//! What a user searches for: words and "phrases", all of which have to occur.

use std::collections::BTreeSet;

use super::search_text::{SearchWord, WordKind, each_word};

/// Longest query, in characters.
pub const MAX_QUERY_CHARACTERS: usize = 1_000;
/// The quotes that begin and end a phrase. Keyboards of phones write curly ones.
const QUOTES: [char; 5] = ['"', '“', '”', '„', '‟'];

/// A query as Postgres and the marks of snippets need it.
///
/// The operands are arguments of `to_tsquery`: quoted, and within the quotes words as `search_text` makes them, which Postgres joins to a phrase. No
/// text of a user makes it fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchQuery {
    /// Operands that all have to occur. Never empty.
    pub wanted: Vec<String>,
    /// Operands of which none may occur, joined by `|`. None: there are none.
    pub unwanted: Option<String>,
    /// Words that are marked where a text has them as they are. Letters of longer runs are not among them, since they occur in other words too.
    pub exact: BTreeSet<String>,
}

impl SearchQuery {
    /// Parses what a user typed. A part without quotes that has several words, such as `well-known`, is a phrase as well; a quote that is not closed ends
    /// with the text. None: there is nothing that has to occur.
    pub fn parse(text: &str) -> Option<Self> {
        let (mut wanted, mut unwanted, mut exact) = (Vec::new(), Vec::new(), BTreeSet::new());
        for QueryPart { text, is_wanted } in parts(text) {
            let mut words: Vec<String> = Vec::new();
            each_word(text, |SearchWord { text, kind, .. }| {
                if is_wanted && kind != (WordKind::Letter { alone: false }) {
                    exact.insert(text.clone());
                }
                words.push(text);
                true
            });
            let operands: &mut Vec<String> = if is_wanted { &mut wanted } else { &mut unwanted };
            let operand = format!("'{}'", words.join(" "));
            if !words.is_empty() && !operands.contains(&operand) {
                operands.push(operand);
            }
        }
        let unwanted = (!unwanted.is_empty()).then(|| unwanted.join(" | "));
        (!wanted.is_empty()).then_some(Self { wanted, unwanted, exact })
    }
}

/// A word or phrase as it was typed.
struct QueryPart<'t> {
    text: &'t str,
    /// Whether it has to occur, rather than not.
    is_wanted: bool,
}

/// The phrases of a text, and what stands between spaces outside of them. A minus before one makes it unwanted.
fn parts(text: &str) -> Vec<QueryPart<'_>> {
    let mut parts = Vec::new();
    let mut minus_before_quote = false;
    for (i, part) in text.split(QUOTES).enumerate() {
        if i % 2 == 1 {
            parts.push(QueryPart { text: part, is_wanted: !minus_before_quote });
            continue;
        }
        parts.extend(part.split_whitespace().map(|word| QueryPart { text: word, is_wanted: !word.starts_with('-') }));
        minus_before_quote = part == "-" || part.ends_with(" -");
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(text: &str) -> Option<String> {
        SearchQuery::parse(text).map(|query| query.wanted.join(" & "))
    }

    #[test]
    fn words_and_phrases_become_operands() {
        for (text, expected) in [
            ("budget", "'budget'"),
            ("Budget  REVIEW budget", "'budget' & 'review'"),
            ("\"next quarter\" plan", "'next quarter' & 'plan'"),
            ("“next quarter” plan", "'next quarter' & 'plan'"),
            ("plan \"never closed phrase", "'plan' & 'never closed phrase'"),
            ("well-known", "'well known'"),
            ("a & b | !c:* <-> (d)", "'a' & 'b' & 'c' & 'd'"),
            ("it's O\\'Neill", "'it s' & 'o neill'"),
            ("東京都", "'東 東京 京 京都 都'"),
            ("\"\" x \"\"", "'x'"),
        ] {
            assert_eq!(wanted(text).as_deref(), Some(expected), "{text}");
        }
        for empty in ["", " ", "-", "-a", "-\"a b\"", "\"\"", "!&|()<->", "\"", "🎉", "\u{301}"] {
            assert_eq!(wanted(empty), None, "{empty}");
        }
    }

    #[test]
    fn a_minus_makes_a_word_or_phrase_unwanted() {
        for (text, expected) in [
            ("plan -draft", Some("'draft'")),
            ("plan -\"first draft\" -old well-known", Some("'first draft' | 'old'")),
            ("-“a b” plan", Some("'a b'")),
            ("plan - draft", None),
            ("plan \"-draft\" - \"old\"", None),
        ] {
            assert_eq!(SearchQuery::parse(text).expect(text).unwanted.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn letters_of_longer_runs_are_not_marked_alone() {
        let exact = SearchQuery::parse("東京 犬 dog").expect("words").exact;
        assert_eq!(exact.into_iter().collect::<Vec<_>>(), ["dog", "東京", "犬"]);
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_quotes(text in "\\PC{0,60}|['\\\\&|!:*<>()\"“” a東\n\t]{0,60}") {
            if let Some(query) = SearchQuery::parse(&text) {
                let unwanted = query.unwanted.unwrap_or_default();
                for operand in query.wanted.iter().map(String::as_str).chain(unwanted.split(" | ").filter(|operand| !operand.is_empty())) {
                    let inner = operand.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                    let inner = inner.expect("an operand in quotes");
                    prop_assert!(!inner.is_empty() && !inner.contains(['\'', '\\', '\0', '&', '|']), "{inner}");
                }
            }
        }
    }
}
