//! Walks over tables by pages, a bounded number of them per step: for clean-ups without an index of their own.
//!
//! An index on the time of each row would be one more write for every request and renewal, and a range index (BRIN) loses its worth once
//! freed pages are filled again. A walk reads each page once in a round, whatever statistics the planner has.

use postgres_types::ToSql;
use tokio_postgres::Row;

use crate::error::Result;
use crate::store::Store;

/// The smallest number of pages of one step, if the table has as many: half a megabyte.
const MIN_PAGES: i64 = 64;
/// The largest number of pages of one step: 4 MiB.
const MAX_PAGES: i64 = 512;

/// The position of a walk over a table. After the last page it begins again at the first.
#[derive(Debug)]
pub struct Walk {
    table: &'static str,
    /// The number of steps of a round, unless the table has more than 512 pages for each.
    steps: i64,
    /// The first page of the next step.
    next: i64,
    /// Whether the last step reached the end of the table.
    is_over: bool,
}

impl Walk {
    /// A walk over a table with a number of steps per round, at least one.
    pub const fn over(table: &'static str, steps: i64) -> Self {
        Self { table, steps, next: 0, is_over: false }
    }

    /// Whether the round is complete: the next step begins another one.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The first page of the next step.
    pub fn place(&self) -> i64 {
        self.next
    }

    /// The pages of the next step in a table of `pages` pages: the first, and the one behind the last.
    fn span(&self, pages: i64) -> (i64, i64) {
        let first = if self.next < pages { self.next } else { 0 };
        (first, first + (pages / self.steps + 1).clamp(MIN_PAGES, MAX_PAGES))
    }
}

impl Store {
    /// Runs a statement over the next pages of a walk. Its last two parameters are the first page, and the one behind the last. The walk advances
    /// only if the statement succeeds.
    pub(in crate::store) async fn walk_on(
        &self,
        walk: &mut Walk,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let pages = self.background(include_str!("../sql/database/table_pages.sql"), &[&walk.table]).await?;
        let pages = pages.first().map_or(0, |row| row.get(0));
        let (first, end) = walk.span(pages);
        let rows = self.background(sql, &[params, &[&first, &end]].concat()).await?;
        (walk.next, walk.is_over) = (end, end >= pages);
        Ok(rows)
    }

    /// The same for a statement that returns at most `limit` rows, its first parameter. If it returns as many, the next step reads the same pages
    /// again: the caller has to change the rows before it, so that they are not found again.
    pub(in crate::store) async fn walk_all(&self, walk: &mut Walk, sql: &'static str, limit: i64) -> Result<Vec<Row>> {
        let before = walk.next;
        let rows = self.walk_on(walk, sql, &[&limit]).await?;
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) >= limit {
            (walk.next, walk.is_over) = (before, false);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of a round over a table of `pages` pages.
    fn round(steps: i64, pages: i64) -> Vec<(i64, i64)> {
        let mut walk = Walk::over("requests", steps);
        let mut spans = Vec::new();
        loop {
            let span = walk.span(pages);
            if span.0 == 0 && !spans.is_empty() {
                return spans;
            }
            spans.push(span);
            walk.next = span.1;
        }
    }

    #[test]
    fn a_round_reads_each_page_once_in_bounded_steps() {
        for (steps, pages) in [(60, 0), (60, 1), (60, 64), (60, 13_334), (5, 13_334), (1, 100), (60, 1_000_000)] {
            let spans = round(steps, pages);
            assert!(spans.windows(2).all(|pair| pair[0].1 == pair[1].0), "no page is left out");
            assert!(spans.last().is_some_and(|(_, end)| *end >= pages));
            assert!(spans.iter().all(|(first, end)| (MIN_PAGES..=MAX_PAGES).contains(&(end - first))));
            let bounded = pages / MAX_PAGES + 1;
            assert!(spans.len() as i64 <= steps.max(bounded), "{steps} {pages} {}", spans.len());
        }
    }

    #[test]
    fn a_table_that_shrank_is_walked_from_its_beginning() {
        let mut walk = Walk::over("requests", 10);
        walk.next = 900;
        assert_eq!(walk.span(500), (0, 64));
    }
}
