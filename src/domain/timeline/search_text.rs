//! Text as words that can be searched, the same for what is stored and for what is asked.
//!
//! Postgres cuts text into words by rules that depend on the locale of the database, and does not cut Chinese, Japanese, Korean and Thai at all. So
//! words are cut here and Postgres only stems them: letters and digits in lower case and normal form (NFKC), everything else parts words. Of a run of
//! letters of those four scripts each letter and each pair of neighbours is a word, in the order a, ab, b, bc, c. Any part of a run is then found as a
//! phrase, however short.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Longest text that [`search_text`] makes. What follows is not found. 64 KiB of any script stay below it.
pub const MAX_SEARCH_TEXT_BYTES: usize = 256 * 1024;
/// Bytes of a word that count. Longer ones (keys, encoded data) are cut, in texts and in queries alike.
const MAX_WORD_BYTES: usize = 255;

/// How a word came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordKind {
    /// A run of letters and digits of a script that parts words.
    Run,
    /// One letter of a script that does not part words. `alone`: its run has no other letter.
    Letter {
        /// Whether its run has no other letter.
        alone: bool,
    },
    /// Two neighbours of a run of such letters.
    Pair,
}

/// A word of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchWord {
    /// The word in normal form.
    pub text: String,
    /// Bytes of the original text that it comes from.
    pub range: Range<usize>,
    /// How it came about.
    pub kind: WordKind,
}

/// The words of a text, parted by single spaces.
pub fn search_text(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    each_word(text, |word| {
        if joined.len() + 1 + word.text.len() > MAX_SEARCH_TEXT_BYTES {
            return false;
        }
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(&word.text);
        true
    });
    joined
}

/// What the database stores for the search of a text. None: the text itself, which is in this form already.
pub fn stored_search_text(text: &str) -> Option<String> {
    Some(search_text(text)).filter(|made| made != text)
}

/// The number of words that a person would count: runs of letters and digits. Each letter of a script that does not part words counts as one.
pub fn word_count(text: &str) -> i32 {
    let mut count = 0;
    each_word(text, |word| {
        let is_mark = word.text.starts_with(is_combining_mark);
        count += i32::from(word.kind != WordKind::Pair && !is_mark);
        true
    });
    count
}

/// Passes the words of a text to `take` in order, until it returns false.
pub fn each_word(text: &str, take: impl FnMut(SearchWord) -> bool) {
    let mut cutter = WordCutter { take, run: None, letters: Vec::new(), is_over: false };
    for range in clusters(text) {
        let cluster = &text[range.clone()];
        match cluster.as_bytes() {
            // Most text, at a tenth of the cost: what is in ASCII is in normal form.
            [byte] => cutter.push(char::from(byte.to_ascii_lowercase()), &range),
            _ => cluster.nfkc().flat_map(char::to_lowercase).for_each(|c| cutter.push(c, &range)),
        }
        if cutter.is_over {
            return;
        }
    }
    cutter.end_run();
    cutter.end_letters();
}

/// The parts of a text that normalize by themselves: a character and what joins it.
fn clusters(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut chars = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, first) = chars.next()?;
        let mut end = start + first.len_utf8();
        while let Some((at, c)) = chars.next_if(|(_, c)| joins(*c)) {
            end = at + c.len_utf8();
        }
        Some(start..end)
    })
}

/// Whether a character can combine with the one before it: marks, vowels and finals of Hangul, voicing marks of half width.
fn joins(c: char) -> bool {
    !c.is_ascii() && (is_combining_mark(c) || matches!(c, '\u{1160}'..='\u{11ff}' | '\u{ff9e}' | '\u{ff9f}'))
}

/// What a character is to the cutter of words.
enum Class {
    /// Part of a word.
    Letter,
    /// A letter of a script that does not part words.
    Unparted,
    /// Joins the letter before it.
    Mark,
    /// Left out, as if it were not there.
    Dropped,
    /// Parts words.
    Gap,
}

fn class(c: char) -> Class {
    match c {
        _ if c.is_ascii() => {
            if c.is_ascii_alphanumeric() {
                Class::Letter
            } else {
                Class::Gap
            }
        }
        // Hints for display: soft hyphen, joiners, direction, selectors of variants.
        '\u{ad}'
        | '\u{200c}'..='\u{200f}'
        | '\u{2060}'
        | '\u{feff}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{e0100}'..='\u{e01ef}' => Class::Dropped,
        // Points of Hebrew, vowel signs and stretching of Arabic: captions have them as often as not. The dot that `İ` leaves in lower case.
        '\u{591}'..='\u{5bd}'
        | '\u{5bf}'
        | '\u{5c1}'
        | '\u{5c2}'
        | '\u{640}'
        | '\u{64b}'..='\u{652}'
        | '\u{670}'
        | '\u{307}' => Class::Dropped,
        // Vowels and tones of Thai are found like its letters: part of a syllable is part of the text.
        '\u{e31}' | '\u{e34}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}' => Class::Unparted,
        _ if is_combining_mark(c) => Class::Mark,
        _ if !c.is_alphanumeric() => Class::Gap,
        // Han, Hiragana, Katakana, Hangul and Thai.
        '\u{3005}'..='\u{3007}'
        | '\u{3041}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}'
        | '\u{1100}'..='\u{11ff}'
        | '\u{3130}'..='\u{318f}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7ff}'
        | '\u{e01}'..='\u{e4e}' => Class::Unparted,
        _ => Class::Letter,
    }
}

/// Puts characters together to words. At most one of `run` and `letters` has any.
struct WordCutter<F> {
    take: F,
    /// The word that is being read.
    run: Option<(String, Range<usize>)>,
    /// The letters of the run that is being read, of a script that does not part words: only the last one and the pair before it are kept back.
    letters: Vec<(String, Range<usize>)>,
    /// Whether `take` wants no more.
    is_over: bool,
}

impl<F: FnMut(SearchWord) -> bool> WordCutter<F> {
    fn push(&mut self, c: char, range: &Range<usize>) {
        match class(c) {
            Class::Dropped => {}
            Class::Gap => {
                self.end_run();
                self.end_letters();
            }
            Class::Mark => {
                if let Some((word, at)) = self.letters.last_mut().or(self.run.as_mut()) {
                    append(word, at, c, range);
                }
            }
            Class::Letter => {
                self.end_letters();
                let (word, at) = self.run.get_or_insert_with(|| (String::new(), range.clone()));
                append(word, at, if c == 'ς' { 'σ' } else { c }, range);
            }
            Class::Unparted => {
                self.end_run();
                self.letters.push((c.to_string(), range.clone()));
            }
        }
    }

    fn end_run(&mut self) {
        if let Some((text, range)) = self.run.take() {
            self.pass(SearchWord { text, range, kind: WordKind::Run });
        }
    }

    fn end_letters(&mut self) {
        let letters = std::mem::take(&mut self.letters);
        let alone = letters.len() == 1;
        for (i, (letter, range)) in letters.iter().enumerate() {
            self.pass(SearchWord { text: letter.clone(), range: range.clone(), kind: WordKind::Letter { alone } });
            if let Some((next, end)) = letters.get(i + 1) {
                self.pass(SearchWord {
                    text: format!("{letter}{next}"),
                    range: range.start..end.end,
                    kind: WordKind::Pair,
                });
            }
        }
    }

    fn pass(&mut self, word: SearchWord) {
        self.is_over = self.is_over || !(self.take)(word);
    }
}

fn append(word: &mut String, at: &mut Range<usize>, c: char, range: &Range<usize>) {
    at.end = range.end;
    if word.len() + c.len_utf8() <= MAX_WORD_BYTES {
        word.push(c);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_letters_and_digits_in_lower_case_and_normal_form() {
        for (text, expected) in [
            ("", ""),
            (" \n-- ", ""),
            ("It's 3.14, Bob!", "it s 3 14 bob"),
            ("foo@bar.com <b>x</b> &amp;", "foo bar com b x b amp"),
            ("Über ÜBER u\u{308}ber", "über über über"),
            ("naïve—CAFÉ", "naïve café"),
            ("ＡＢＣ１２３", "abc123"),
            ("ﬁsh ½", "fish 1 2"),
            ("soft\u{ad}hyphen zero\u{200b}width", "softhyphen zero width"),
            ("ΛΟΓΟΣ λόγος", "λογοσ λόγοσ"),
            ("İSTANBUL", "istanbul"),
            ("हिन्दी भाषा", "हिन्दी भाषा"),
            ("שָׁלוֹם العَرَبِيَّةُ", "שלום العربية"),
            ("می\u{200c}خواهم", "میخواهم"),
            ("🎉party🎉", "party"),
        ] {
            assert_eq!(search_text(text), expected.nfkc().collect::<String>(), "{text}");
        }
    }

    #[test]
    fn scripts_that_do_not_part_words_become_letters_and_pairs() {
        for (text, expected) in [
            ("東", "東"),
            ("東京都", "東 東京 京 京都 都"),
            ("東京、大阪", "東 東京 京 大 大阪 阪"),
            ("ｶﾞ", "ガ"),
            ("か\u{3099}", "が"),
            ("iPhone15を買う", "iphone15 を を買 買 買う う"),
            ("한국어 안녕", "한 한국 국 국어 어 안 안녕 녕"),
            ("\u{1112}\u{1161}\u{11ab}", "한"),
            ("ที่นี่", "ท ที ี ี่ ่ ่น น นี ี ี่ ่"),
            ("ラーメン", "ラ ラー ー ーメ メ メン ン"),
        ] {
            assert_eq!(search_text(text), expected, "{text}");
        }
    }

    #[test]
    fn words_are_counted_as_a_person_counts() {
        let counts = ["", "one two-three", "東京 tower", "é", "ที่นี่"].map(word_count);
        assert_eq!(counts, [0, 3, 3, 1, 2]);
    }

    #[test]
    fn texts_in_search_form_are_not_stored_twice() {
        assert_eq!(stored_search_text("plain words 東"), None);
        assert_eq!(stored_search_text("Words").as_deref(), Some("words"));
        assert_eq!(stored_search_text("🎉").as_deref(), Some(""));
    }

    #[test]
    fn long_words_and_texts_are_cut() {
        assert_eq!(search_text(&"x".repeat(5_000)).len(), 255);
        assert_eq!(search_text(&"é".repeat(5_000)).len(), 254);
        for text in ["東京都".repeat(22_000 / 3), "a ".repeat(32_768), "\u{fdfa}".repeat(21_845), "ที่".repeat(7_281)]
        {
            let made = search_text(&text);
            assert!(made.len() <= MAX_SEARCH_TEXT_BYTES && !made.ends_with(' '), "{}", made.len());
        }
        let whole = search_text(&"東京都".repeat(7_281));
        assert!(whole.ends_with("都"), "64 KiB of Han are found to the end");
    }

    proptest! {
        #[test]
        fn words_point_at_what_they_come_from(text in "\\PC{0,40}|[東京ｶﾞ가각กี่éa1 .\u{307}\u{301}]{0,20}") {
            let mut at = 0;
            each_word(&text, |word| {
                assert!(text.get(word.range.clone()).is_some_and(|part| !part.is_empty()));
                assert!(word.range.start >= at && !word.text.is_empty() && word.text.chars().all(|c| !c.is_whitespace()));
                at = word.range.start;
                true
            });
        }

        #[test]
        fn a_part_of_a_run_is_a_phrase_of_the_run(
            run in proptest::collection::vec(proptest::sample::select(vec!["東", "京", "あ", "ア", "한", "ก"]), 1..12),
            from in 0usize..12,
            to in 0usize..12,
        ) {
            let (from, to) = (from.min(to).min(run.len() - 1), from.max(to).min(run.len() - 1));
            let (whole, part) = (search_text(&run.concat()), search_text(&run[from..=to].concat()));
            let bounded = |text: &str| format!(" {text} ");
            prop_assert!(bounded(&whole).contains(&bounded(&part)), "{whole}: {part}");
        }

        #[test]
        fn searching_what_was_made_changes_nothing(text in "\\PC{0,40}") {
            let once = search_text(&text);
            let words: Vec<&str> = once.split(' ').collect();
            for word in words {
                let again = search_text(word);
                prop_assert!(again == word || again.split(' ').count() == 3, "{word}: {again}");
            }
        }
    }
}
