//! Conditions on segments in queries and searches.

use crate::domain::refusal::Refusal;
use crate::domain::timeline::query::SegmentConditions;
use crate::rpc::convert::path::Path;
use crate::rpc::convert::{segment, text};
use crate::rpc::limits::{NAMES_PER_QUERY, SPEAKER_BYTES};

/// Reads conditions on segments, but for statuses.
pub fn conditions(kinds: &[i32], languages: &[String], speakers: Vec<String>) -> Result<SegmentConditions, Refusal> {
    let root = Path::Root;
    for (list, field) in [(languages, "languages"), (speakers.as_slice(), "speakers")] {
        if list.len() > NAMES_PER_QUERY {
            return Err(root.field(field).refuse(format!("has {} entries, {NAMES_PER_QUERY} are allowed", list.len())));
        }
    }
    let (tags, names) = (root.field("languages"), root.field("speakers"));
    let tag = |(i, tag): (usize, &String)| {
        Ok(text::language(tag, &tags.index(i))?.map_or(String::new(), |tag| tag.to_string()))
    };
    for (i, name) in speakers.iter().enumerate() {
        text::line::<String>(name, SPEAKER_BYTES, &names.index(i))?;
    }
    Ok(SegmentConditions {
        kinds: each_once(kinds, "kinds", |given, path| Ok(segment::kind(given, path)?.map(|kind| kind as i16)))?,
        statuses: Vec::new(),
        languages: languages.iter().enumerate().map(tag).collect::<Result<_, Refusal>>()?,
        speakers,
    })
}

/// Reads the values of an enum, each once. None as a value is that which is unspecified, which is refused.
pub fn each_once(
    given: &[i32],
    field: &str,
    read: impl Fn(i32, &Path) -> Result<Option<i16>, Refusal>,
) -> Result<Vec<i16>, Refusal> {
    let root = Path::Root;
    let list = root.field(field);
    let mut numbers = Vec::new();
    for (i, number) in given.iter().enumerate() {
        let path = list.index(i);
        let number = read(*number, &path)?.ok_or_else(|| path.unknown(*number))?;
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_bounded_and_name_the_entry_at_fault() {
        let refused = |kinds: &[i32], languages: &[&str]| {
            let languages: Vec<String> = languages.iter().map(|tag| (*tag).to_owned()).collect();
            match conditions(kinds, &languages, Vec::new()) {
                Err(Refusal::InvalidField { path, .. }) => path,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(conditions(&[2, 2, 1], &[], Vec::new()).map(|read| read.kinds), Ok(vec![2, 1]));
        assert_eq!(conditions(&[], &[String::new()], Vec::new()).map(|read| read.languages), Ok(vec![String::new()]));
        assert_eq!(refused(&[1, 0], &[]), "kinds[1]");
        assert_eq!(refused(&[5], &[]), "kinds[0]");
        assert_eq!(refused(&[], &["en"; 51]), "languages");
        assert_eq!(refused(&[], &["en", "not a tag"]), "languages[1]");
    }
}
