//! The part of a text that a search shows: that with the most matches.

use std::ops::Range;

/// Longest snippet, in characters.
pub const MAX_SNIPPET_CHARACTERS: usize = 400;
/// Characters before the first match of a snippet.
const LEAD_CHARACTERS: usize = 60;
/// Stands where something of the text is missing.
const ELLIPSIS: char = '…';

/// Part of a text with its matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// At most [`MAX_SNIPPET_CHARACTERS`].
    pub text: String,
    /// Characters of `text` that match, in order, not overlapping.
    pub matches: Vec<Range<usize>>,
}

/// Cuts a snippet out of a text, given the bytes that match, in the order of their starts; they may overlap.
pub fn snippet(text: &str, matches: &[Range<usize>]) -> Snippet {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let character = |byte: usize| starts.partition_point(|start| *start < byte);
    let mut found: Vec<Range<usize>> = Vec::new();
    for range in matches {
        let range = character(range.start)..character(range.end);
        match found.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => found.push(range),
        }
    }
    let shown = window(text, &starts, &found);
    let byte = |character: usize| starts.get(character).copied().unwrap_or(text.len());
    let (is_cut_before, is_cut_after) = (shown.start > 0, shown.end < starts.len());
    let mut cut = String::new();
    cut.extend(is_cut_before.then_some(ELLIPSIS));
    cut.push_str(&text[byte(shown.start)..byte(shown.end)]);
    cut.extend(is_cut_after.then_some(ELLIPSIS));
    let moved = usize::from(is_cut_before);
    let within = found.into_iter().filter(|range| shown.start <= range.start && range.end <= shown.end);
    let matches = within.map(|range| range.start - shown.start + moved..range.end - shown.start + moved).collect();
    Snippet { text: cut, matches }
}

/// The characters that are shown: all if there is room, otherwise from shortly before the match that most others follow.
fn window(text: &str, starts: &[usize], found: &[Range<usize>]) -> Range<usize> {
    if starts.len() <= MAX_SNIPPET_CHARACTERS {
        return 0..starts.len();
    }
    let length = MAX_SNIPPET_CHARACTERS - 2;
    let mut best = (0, 0);
    for (i, first) in found.iter().enumerate() {
        let end = first.start + length - LEAD_CHARACTERS;
        let count = found[i..].partition_point(|range| range.end <= end);
        if count > best.0 {
            best = (count, first.start);
        }
    }
    let first = best.1;
    let earliest = first.saturating_sub(LEAD_CHARACTERS).min(starts.len() - length);
    // At the beginning of a word, if one begins before the match.
    let is_space = |character: usize| text[starts[character]..].starts_with(char::is_whitespace);
    let at_word = (earliest..first).find(|character| *character == 0 || is_space(character - 1));
    let start = at_word.unwrap_or(earliest);
    start..(start + length).min(starts.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The snippet with its matches in brackets.
    fn marked(text: &str, matches: &[Range<usize>]) -> String {
        let Snippet { text, matches } = snippet(text, matches);
        let mut marked = String::new();
        for (i, c) in text.chars().enumerate() {
            marked.extend(matches.iter().any(|range| range.start == i).then_some('['));
            marked.push(c);
            marked.extend(matches.iter().any(|range| range.end == i + 1).then_some(']'));
        }
        marked
    }

    /// One match.
    fn one(found: Range<usize>) -> Vec<Range<usize>> {
        std::iter::once(found).collect()
    }

    #[test]
    fn short_texts_are_shown_whole() {
        assert_eq!(marked("über die Brücke", &one(10..17)), "über die [Brücke]");
        assert_eq!(marked("東京都", &[0..6, 3..9]), "[東京都]");
        assert_eq!(marked("aab", &[0..1, 1..2]), "[a][a]b");
        assert_eq!(marked("", &[]), "");
    }

    #[test]
    fn long_texts_are_cut_around_most_matches() {
        let text = format!("{}x {}b c {}", "word ".repeat(200), "word ".repeat(200), "word ".repeat(200));
        let at = |part: &str| text.find(part).map(|at| at..at + 1).expect("it is there");
        let cut = marked(&text, &[at("x "), at("b c"), at("c ")]);
        assert!(cut.starts_with("…word ") && cut.contains("[b] [c] word") && cut.ends_with('…'), "{cut}");
        assert!(marked(&text, &[]).starts_with("word word"), "without a match it is the beginning");
        let end = format!("{}z", "word ".repeat(200));
        assert!(marked(&end, &one(1_000..1_001)).ends_with("word [z]"));
    }

    proptest! {
        #[test]
        fn matches_are_in_order_and_within(
            text in "[ab é東]{0,900}",
            places in proptest::collection::vec((0usize..900, 1usize..30), 0..20),
        ) {
            let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let mut ranges: Vec<Range<usize>> = places
                .iter()
                .filter(|(from, _)| *from + 1 < starts.len())
                .map(|(from, length)| starts[*from]..starts[(from + length).min(starts.len() - 1)])
                .collect();
            ranges.sort_by_key(|range| range.start);
            let Snippet { text: cut, matches } = snippet(&text, &ranges);
            let length = cut.chars().count();
            prop_assert!(length <= MAX_SNIPPET_CHARACTERS);
            prop_assert!(matches.windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert!(matches.iter().all(|range| range.start < range.end && range.end <= length));
        }
    }
}
