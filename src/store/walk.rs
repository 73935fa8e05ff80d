//! Walks over tables by their pages, a bounded number at a time: for clean-ups that need no index of their own.
//!
//! An index on the time of each row would be one more write for every request and renewal, and a range index (BRIN) loses its worth once
//! freed pages are filled again. A walk reads each page once in a round, whatever statistics the planner has.

use postgres_types::ToSql;
use tokio_postgres::Row;

use super::Store;
use crate::error::Result;

/// The fewest pages that one look reads, if the table has so many: half a megabyte.
const MIN_PAGES: i64 = 64;
/// The most: 4 MiB.
const MAX_PAGES: i64 = 512;

/// How far a walk over a table has come. It begins at the first page and after the last begins again.
#[derive(Debug)]
pub struct Walk {
    table: &'static str,
    /// Looks in which a round is done, unless the table has more than 512 pages for each.
    looks: i64,
    /// The first page of the next look.
    next: i64,
    /// Whether the last look came to the end of the table.
    is_over: bool,
}

impl Walk {
    /// A walk over a table that takes so many looks, at least one, for a round.
    pub const fn over(table: &'static str, looks: i64) -> Self {
        Self { table, looks, next: 0, is_over: false }
    }

    /// Whether the round is done: the next look begins another one.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The first page of the next look.
    pub fn place(&self) -> i64 {
        self.next
    }

    /// The pages of the next look in a table of so many pages: the first, and the one behind the last.
    fn span(&self, pages: i64) -> (i64, i64) {
        let first = if self.next < pages { self.next } else { 0 };
        (first, first + (pages / self.looks + 1).clamp(MIN_PAGES, MAX_PAGES))
    }
}

impl Store {
    /// Runs a statement over the next pages of a walk: the first, and the one behind the last, are its last two parameters. The walk goes on
    /// behind them only if that succeeds.
    pub(super) async fn walk_on(
        &self,
        walk: &mut Walk,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let pages = self.background(include_str!("sql/table_pages.sql"), &[&walk.table]).await?;
        let pages = pages.first().map_or(0, |row| row.get(0));
        let (first, end) = walk.span(pages);
        let rows = self.background(sql, &[params, &[&first, &end]].concat()).await?;
        (walk.next, walk.is_over) = (end, end >= pages);
        Ok(rows)
    }

    /// The same for a statement that returns a limited number of rows, its first parameter. Where it returns so many, the next look is at the
    /// same pages: what was found is to be changed before it, so that it is not found again.
    pub(super) async fn walk_all(&self, walk: &mut Walk, sql: &'static str, limit: i64) -> Result<Vec<Row>> {
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

    /// The spans of a round over a table of so many pages.
    fn round(looks: i64, pages: i64) -> Vec<(i64, i64)> {
        let mut walk = Walk::over("requests", looks);
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
    fn a_round_reads_each_page_once_in_bounded_looks() {
        for (looks, pages) in [(60, 0), (60, 1), (60, 64), (60, 13_334), (5, 13_334), (1, 100), (60, 1_000_000)] {
            let spans = round(looks, pages);
            assert!(spans.windows(2).all(|pair| pair[0].1 == pair[1].0), "no page is left out");
            assert!(spans.last().is_some_and(|(_, end)| *end >= pages));
            assert!(spans.iter().all(|(first, end)| (MIN_PAGES..=MAX_PAGES).contains(&(end - first))));
            let bounded = pages / MAX_PAGES + 1;
            assert!(spans.len() as i64 <= looks.max(bounded), "{looks} {pages} {}", spans.len());
        }
    }

    #[test]
    fn a_table_that_shrank_is_walked_from_its_beginning() {
        let mut walk = Walk::over("requests", 10);
        walk.next = 900;
        assert_eq!(walk.span(500), (0, 64));
    }
}
