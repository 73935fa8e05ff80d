//! Names, ids and messages: their characters and lengths, as the protos describe them.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::path::Path;
use crate::domain::id::{Name, is_job_id};
use crate::domain::refusal::Refusal;
use crate::domain::short::Short;
use crate::rpc::limits;

/// The id of a job; an empty one is refused.
pub fn job_id(text: &str, path: &Path) -> Result<Name, Refusal> {
    if text.is_empty() {
        return Err(path.missing());
    }
    if !is_job_id(text) {
        return Err(path.mismatch("[A-Za-z0-9._:-]{1,128}", text));
    }
    Ok(text.into())
}

/// The kind of a job; an empty one is refused.
pub fn kind(text: &str, path: &Path) -> Result<Name, Refusal> {
    plain(text, limits::NAME_BYTES, b"._:/-", "[A-Za-z0-9._:/-]{1,128}", path)
}

/// The name of a stage or of a queue; an empty one is refused.
pub fn name<T: for<'t> From<&'t str>>(text: &str, path: &Path) -> Result<T, Refusal> {
    plain(text, limits::NAME_BYTES, b"._:-", "[A-Za-z0-9._:-]{1,128}", path)
}

/// The key of a segment; an empty one is refused.
pub fn segment_key(text: &str, path: &Path) -> Result<Short, Refusal> {
    plain(text, limits::NAME_BYTES, b"._:/-", "[A-Za-z0-9._:/-]{1,128}", path)
}

/// A BCP 47 tag. None: the text is empty.
pub fn language(text: &str, path: &Path) -> Result<Option<Short>, Refusal> {
    let is_part = |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > limits::LANGUAGE_BYTES || !text.split('-').all(is_part) {
        return Err(path.mismatch("[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*, at most 64 bytes", text));
    }
    Ok(Some(text.into()))
}

/// The name of a namespace; an empty one is refused.
pub fn namespace(text: &str, path: &Path) -> Result<Name, Refusal> {
    plain(text, limits::NAMESPACE_BYTES, b"._-", "[A-Za-z0-9._-]{1,63}", path)
}

/// The name of a worker; an empty one is refused.
pub fn worker_id(text: &str, path: &Path) -> Result<Name, Refusal> {
    if text.is_empty() {
        return Err(path.missing());
    }
    line(text, limits::WORKER_ID_BYTES, path)
}

/// A UUID that the caller made up; an empty text is refused.
pub fn uuid(text: &str, path: &Path) -> Result<Uuid, Refusal> {
    if text.is_empty() {
        return Err(path.empty());
    }
    Uuid::try_parse(text).map_err(|_| path.refuse("must be a UUID"))
}

/// Text of one line: no control characters.
pub fn line<T: for<'t> From<&'t str>>(text: &str, bytes: usize, path: &Path) -> Result<T, Refusal> {
    check_line(text, bytes, path)?;
    Ok(text.into())
}

/// Text for people: line breaks and tabs are fine, NUL is not, since the database cannot hold it.
pub fn prose<T: for<'t> From<&'t str>>(text: &str, bytes: usize, path: &Path) -> Result<T, Refusal> {
    check_length(text, bytes, path)?;
    if text.bytes().any(|b| b == 0) {
        return Err(path.refuse("a NUL character is not allowed"));
    }
    Ok(text.into())
}

/// The labels of a job.
pub fn labels(labels: BTreeMap<String, String>, path: &Path) -> Result<Arc<BTreeMap<String, String>>, Refusal> {
    if labels.len() > limits::LABELS {
        return Err(path.refuse(format!("has {} labels, {} are allowed", labels.len(), limits::LABELS)));
    }
    for (key, value) in &labels {
        let path = path.key(key);
        if !is_label_key(key) {
            return Err(path.refuse("the key must match [A-Za-z0-9._/-]{1,63}"));
        }
        check_line(value, limits::LABEL_VALUE_BYTES, &path)?;
    }
    Ok(Arc::new(labels))
}

/// Whether a text can be the key of a label.
pub fn is_label_key(key: &str) -> bool {
    is_plain(key, limits::LABEL_KEY_BYTES, b"._/-")
}

fn plain<T>(text: &str, bytes: usize, others: &[u8], pattern: &str, path: &Path) -> Result<T, Refusal>
where
    T: for<'t> From<&'t str>,
{
    if text.is_empty() {
        return Err(path.missing());
    }
    if !is_plain(text, bytes, others) {
        return Err(path.mismatch(pattern, text));
    }
    Ok(text.into())
}

fn is_plain(text: &str, bytes: usize, others: &[u8]) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || others.contains(&b);
    !text.is_empty() && text.len() <= bytes && text.bytes().all(allowed)
}

fn check_line(text: &str, bytes: usize, path: &Path) -> Result<(), Refusal> {
    check_length(text, bytes, path)?;
    if text.chars().any(char::is_control) {
        return Err(path.refuse("control characters are not allowed"));
    }
    Ok(())
}

fn check_length(text: &str, bytes: usize, path: &Path) -> Result<(), Refusal> {
    if text.len() > bytes {
        return Err(path.refuse(format!("has {} bytes, {bytes} are allowed", text.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        assert!(name::<Name>("tts:de-1.0_x", &Path::Root).is_ok());
        assert!(kind("media/video", &Path::Root).is_ok());
        let long = "x".repeat(129);
        for bad in ["", "a b", "a/b", "ü", "a\0", "a\n", &long] {
            assert!(name::<Name>(bad, &Path::Root).is_err(), "{bad:?}");
        }
        assert!(worker_id("host 7 (Zürich)", &Path::Root).is_ok());
        assert!(worker_id("a\u{85}b", &Path::Root).is_err(), "C1 controls count too");
        assert!(namespace(&"x".repeat(64), &Path::Root).is_err());
    }

    #[test]
    fn messages_may_have_lines_but_no_nul() {
        assert!(prose::<Name>("a\nb\tc", 10, &Path::Root).is_ok());
        assert!(prose::<Name>("a\0", 10, &Path::Root).is_err());
        assert!(prose::<Name>("aaa", 2, &Path::Root).is_err());
    }

    #[test]
    fn labels_are_checked_one_by_one() {
        let one = |key: &str, value: &str| labels(BTreeMap::from([(key.to_owned(), value.to_owned())]), &Path::Root);
        assert!(one("team/a.b_c-d", "").is_ok());
        for (key, value) in [("", "x"), ("a b", "x"), ("a:b", "x"), ("a", "x\n"), ("a", "\0"), ("a", &"x".repeat(257))]
        {
            assert!(one(key, value).is_err(), "{key:?} {value:?}");
        }
        assert!(one(&"k".repeat(64), "x").is_err());
        let many = (0..65).map(|i| (format!("k{i}"), String::new())).collect();
        assert!(labels(many, &Path::Root).is_err());
    }
}
