//! The fields of a record as its row has them: a JSON object of name → [version, value]. Written by hand, since the values are JSON already and
//! each change of a record writes all of them.

use crate::domain::fields::Field;
use crate::domain::short::Short;

/// The largest number of digits of a version.
const DIGITS: usize = 20;
/// The largest number of bytes around a field: quotes, colon, brackets and commas.
const AROUND: usize = 7;

/// The text of some fields. A field that `is_apart` has no value in it: `[version]`.
pub fn text<'a>(
    fields: impl Iterator<Item = (&'a Short, &'a Field)> + Clone,
    is_apart: impl Fn(&Field) -> bool,
) -> String {
    let value = |field: &Field| if is_apart(field) { 0 } else { field.value.len() };
    let bytes = |(name, field): (&Short, &Field)| name.len() + value(field) + DIGITS + AROUND;
    let mut text = Text { bytes: vec![0; fields.clone().map(bytes).sum::<usize>() + 2], end: 0 };
    text.byte(b'{');
    for (i, (name, field)) in fields.enumerate() {
        if i > 0 {
            text.byte(b',');
        }
        text.name(name);
        text.byte(b':');
        text.byte(b'[');
        text.number(field.version.unsigned_abs());
        if !is_apart(field) {
            text.byte(b',');
            text.put(field.value.as_str().as_bytes());
        }
        text.byte(b']');
    }
    text.byte(b'}');
    text.bytes.truncate(text.end);
    String::from_utf8(text.bytes).expect("it is made of texts")
}

/// A text of which `end` bytes are written.
struct Text {
    bytes: Vec<u8>,
    end: usize,
}

impl Text {
    fn byte(&mut self, byte: u8) {
        self.bytes[self.end] = byte;
        self.end += 1;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// A name as JSON; most need no escapes.
    fn name(&mut self, name: &Short) {
        if name.as_bytes().iter().any(|&b| b < 0x20 || b == b'"' || b == b'\\') {
            let name = serde_json::to_string(name.as_str()).expect("a text can be written");
            self.bytes.resize(self.bytes.len() + name.len(), 0);
            return self.put(name.as_bytes());
        }
        self.byte(b'"');
        self.put(name.as_bytes());
        self.byte(b'"');
    }

    /// In decimal. There is a version for each field of each row, which is too many for the machinery of formats.
    fn number(&mut self, number: u64) {
        let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
        let mut rest = number;
        for digit in self.bytes[self.end..self.end + digits].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.end += digits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json::Json;

    #[test]
    fn fields_are_json_whatever_their_names_and_sizes() {
        let names =
            ["", "a", "Voice URL", "ü", "a\"b", "a\\b", "\\", "\u{7f}", "\u{1}", &"n".repeat(22), &"\"".repeat(128)];
        let long = format!("\"{}\"", "v".repeat(200));
        let values = ["1", "null", "\"x\"", "[1,2]", &long, "\"1234567890123456789\"", "\"12345678901234567890\""];
        let versions = [1, 9, 10, 907, i64::MAX];
        let parts = (0..=names.len()).flat_map(|end| [(0, end), (end, names.len())]);
        for (start, end) in parts {
            let field = |i: usize| Field {
                version: versions[i % versions.len()],
                value: Json::from_checked(values[i % values.len()]),
            };
            let fields: Vec<(Short, Field)> =
                names[start..end].iter().enumerate().map(|(i, name)| ((*name).into(), field(i))).collect();
            let is_apart = |field: &Field| field.value.len() > 100;
            let text = text(fields.iter().map(|(name, field)| (name, field)), is_apart);
            let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let meant = fields.iter().map(|(name, field)| {
                let mut parsed = vec![serde_json::json!(field.version)];
                if !is_apart(field) {
                    parsed.push(serde_json::from_str(field.value.as_str()).expect("JSON"));
                }
                (name.to_string(), parsed.into())
            });
            assert_eq!(parsed, serde_json::Value::Object(meant.collect()), "{text}");
        }
    }
}
