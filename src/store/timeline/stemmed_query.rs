//! The words of a search as each configuration stems them.

use std::collections::BTreeSet;

use crate::domain::timeline::search_language::SearchLanguage;
use crate::domain::timeline::search_query::SearchQuery;
use crate::error::Result;
use crate::store::pg::connection::{Run, unavailable};
use crate::store::pg::snapshot::Snapshot;

/// A query in each configuration, as texts of the type `tsquery`.
#[derive(Clone, Debug)]
pub(in crate::store) struct StemmedQuery {
    pub(in crate::store) configs: Vec<&'static str>,
    /// What has to occur, by configuration.
    pub(in crate::store) wanted: Vec<String>,
    /// The operands of the query, by configuration. Empty: words that it does not count.
    pub(in crate::store) operands: Vec<Vec<String>>,
    /// What may not occur, by configuration. None: nothing is unwanted.
    pub(in crate::store) unwanted: Option<Vec<String>>,
}

impl StemmedQuery {
    pub(super) async fn read(snapshot: &Snapshot<'_>, query: &SearchQuery) -> Result<Self> {
        let configs: Vec<&str> = SearchLanguage::all().map(SearchLanguage::name).collect();
        let sql = include_str!("../sql/timeline/search_words.sql");
        let rows = snapshot.rows(sql, &[&configs, &query.wanted, &query.unwanted]).await;
        let rows = rows.map_err(|error| unavailable(&error))?;
        let wanted = rows.iter().map(|row| row.get("wanted")).collect();
        let operands = rows.iter().map(|row| row.get("operands")).collect();
        let unwanted = rows.iter().map(|row| row.get("unwanted")).collect();
        Ok(Self { configs, wanted, operands, unwanted })
    }

    /// What any text has that matches the query in its language; others may have it too.
    ///
    /// Each operand in the forms of all languages, and not each language with all of its operands: the index looks a text up in the forms of one
    /// operand, and in the others only if it is there, and does not weigh up dozens of combinations.
    pub(super) fn in_any_language(&self) -> String {
        let clauses: Vec<String> =
            (0..self.operands.first().map_or(0, Vec::len)).filter_map(|place| self.clause(place)).collect();
        if clauses.is_empty() {
            return any_of(self.wanted.iter().map(String::as_str)).unwrap_or_default();
        }
        clauses.join(" & ")
    }

    /// The forms of an operand. None: a language matches texts that have none of them, since it does not count the operand but counts others.
    fn clause(&self, place: usize) -> Option<String> {
        let counting = self.operands.iter().filter(|operands| operands.iter().any(|operand| !operand.is_empty()));
        let forms: Vec<&str> = counting.map(|operands| operands[place].as_str()).collect();
        if forms.iter().any(|form| form.is_empty()) { None } else { any_of(forms.into_iter()) }
    }
}

/// Queries of which one has to match. None: all are empty.
fn any_of<'q>(queries: impl Iterator<Item = &'q str>) -> Option<String> {
    let each: BTreeSet<String> = queries.filter(|query| !query.is_empty()).map(|query| format!("({query})")).collect();
    (!each.is_empty()).then(|| format!("({})", each.into_iter().collect::<Vec<_>>().join(" | ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_any_language(operands: &[&[&str]], wanted: &[&str]) -> String {
        let operands = operands.iter().map(|each| each.iter().map(ToString::to_string).collect()).collect();
        let wanted = wanted.iter().map(ToString::to_string).collect();
        StemmedQuery { configs: Vec::new(), wanted, operands, unwanted: None }.in_any_language()
    }

    #[test]
    fn each_operand_has_the_forms_of_all_languages() {
        let (english, german, simple) = (["'run'", "'plan'"], ["'running'", "'plan'"], ["'running'", "'plans'"]);
        assert_eq!(
            in_any_language(&[&english, &german, &simple], &["x"]),
            "(('run') | ('running')) & (('plan') | ('plans'))"
        );
    }

    #[test]
    fn operands_that_a_language_does_not_count_are_no_condition() {
        // A text in English that has "plan" matches "the plan".
        assert_eq!(in_any_language(&[&["", "'plan'"], &["'the'", "'plan'"]], &["x"]), "(('plan'))");
        // A language that counts none of them matches them as they are.
        assert_eq!(in_any_language(&[&["", ""], &["'the'", "'of'"]], &["x"]), "(('the')) & (('of'))");
        // Each operand is left out by one of the languages.
        let (english, spanish) = (["", "'los'"], ["'the'", ""]);
        assert_eq!(in_any_language(&[&english, &spanish], &["'los'", "'the'", "'the'"]), "(('los') | ('the'))");
        assert_eq!(in_any_language(&[], &[]), "");
    }
}
