//! Equality of JSON values, the same for everything that compares values.
//!
//! Null, bools and texts are equal to themselves. Numbers are equal if they are the same double (0 and −0 are), lists if their elements are
//! equal in order, objects if their members are. Filters of lists do the same in SQL. Values are compact JSON text with sorted keys, so two
//! of them are compared token by token up to the first difference, without parsing.

/// Whether two values are equal.
pub fn equal(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(&one), Some(&other)) = (a.first(), b.first()) else { return a.is_empty() && b.is_empty() };
        let (one, other) = match (one, other) {
            (b'"', b'"') => (text_length(a), text_length(b)),
            (b'-' | b'0'..=b'9', b'-' | b'0'..=b'9') => (number_length(a), number_length(b)),
            // Brackets, separators and the letters of null, true and false.
            _ => (1, 1),
        };
        let ((one, rest), (other, other_rest)) = (a.split_at(one), b.split_at(other));
        if one != other && !is_same_number(one, other) {
            return false;
        }
        (a, b) = (rest, other_rest);
    }
}

/// Splits the text of a list into the texts of its elements.
pub fn elements(list: &str) -> Vec<&str> {
    let inside = &list[1..list.len() - 1];
    let (bytes, mut at, mut begin, mut depth) = (inside.as_bytes(), 0, 0, 0usize);
    let mut elements = Vec::new();
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at += text_length(&bytes[at..]) - 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                elements.push(&inside[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if !inside.is_empty() {
        elements.push(&inside[begin..]);
    }
    elements
}

/// Length in bytes of the JSON string at the beginning of `bytes`, with its quotes.
fn text_length(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Length in bytes of the number at the beginning of `bytes`.
fn number_length(bytes: &[u8]) -> usize {
    let is_part = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    bytes.iter().take_while(is_part).count()
}

/// Whether both texts are numbers, and the same one.
fn is_same_number(one: &[u8], other: &[u8]) -> bool {
    let number = |bytes| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<f64>().ok());
    number(one).zip(number(other)).is_some_and(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::{elements, equal};

    #[test]
    fn equality_ignores_how_numbers_are_written() {
        for (a, b) in [
            ("0", "-0.0"),
            ("1e-5", "0.00001"),
            ("[0,{\"a\":-0.0}]", "[-0.0,{\"a\":0}]"),
            ("\"a,\\\"b\"", "\"a,\\\"b\""),
            ("{\"a\":[1,2],\"b\":null}", "{\"a\":[1,2],\"b\":null}"),
        ] {
            assert!(equal(a, b) && equal(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("0", "1"),
            ("1", "10"),
            ("0", "\"0\""),
            ("\"0\"", "\"-0.0\""),
            ("null", "false"),
            ("[1]", "[1,2]"),
            ("[]", "{}"),
            ("[[1],2]", "[[1,2]]"),
            ("{\"a\":1}", "{\"b\":1}"),
            ("{\"0\":1}", "{\"-0.0\":1}"),
            ("[12]", "[1,2]"),
        ] {
            assert!(!equal(a, b) && !equal(b, a), "{a} {b}");
        }
    }

    #[test]
    fn a_list_is_split_at_its_own_commas() {
        for (list, expected) in [
            ("[]", vec![]),
            ("[1]", vec!["1"]),
            (
                r#"[1,"a,]\",[",[2,[3,4]],{"b,":[5,6]},null]"#,
                vec!["1", r#""a,]\",[""#, "[2,[3,4]]", r#"{"b,":[5,6]}"#, "null"],
            ),
        ] {
            assert_eq!(elements(list), expected);
        }
    }
}
