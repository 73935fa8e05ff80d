//! Conditions on segments as SQL.

use crate::domain::timeline::query::SegmentConditions;
use crate::store::page::Values;

/// The conditions as SQL on the columns of segments `g`.
pub(super) fn conditions(conditions: &SegmentConditions, values: &mut Values) -> Vec<String> {
    let SegmentConditions { kinds, statuses, languages, speakers } = conditions;
    let mut parts = Vec::new();
    if !kinds.is_empty() {
        parts.push(format!("g.kind = ANY({}::smallint[])", values.bind(kinds.clone())));
    }
    if !statuses.is_empty() {
        parts.push(format!("g.status = ANY({}::smallint[])", values.bind(statuses.clone())));
    }
    if !languages.is_empty() {
        // A tag begins with a range, subtag by subtag; no tag begins with a hyphen.
        let ranges: Vec<String> = languages.iter().map(|tag| format!("{}-", tag.to_ascii_lowercase())).collect();
        let ranges = values.bind(ranges);
        parts.push(format!("(lower(coalesce(g.language, '')) || '-') ^@ ANY({ranges}::text[])"));
    }
    if !speakers.is_empty() {
        parts.push(format!("coalesce(g.speaker, '') = ANY({}::text[])", values.bind(speakers.clone())));
    }
    parts
}
