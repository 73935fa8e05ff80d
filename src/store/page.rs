//! Pages of lists: a page is one walk along an index, which ends when the page is full or a bounded number of rows was read.
//!
//! **Invariant.** No page reads a number of rows that grows with the table. Where the filter has no index, rows that do not match are read and
//! skipped, and the next page begins behind the last row that was read.

use postgres_types::{ToSql, Type};
use tokio_postgres::Row;
use uuid::Uuid;

use super::pg::connection::{Run, unavailable};
use super::pg::snapshot::Snapshot;
use crate::domain::query::{Comparison, Test};
use crate::domain::time::Timestamp;
use crate::error::Result;

/// Rows that one walk reads, at most. 2,000 rows in random order take about 10 ms from the page cache of the operating system.
pub(super) const MAX_LOOKED_AT: i64 = 2_000;

/// Settings by which a walk follows the index of its order and never sorts, whatever statistics the planner has.
pub(super) const WALK_SETUP: &str = "SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; SET LOCAL enable_bitmapscan = off; \
    SET LOCAL enable_seqscan = off";

/// What fills the braces of a statement in `sql/<aggregate>/pages`.
pub(super) struct PageParts<'a> {
    /// The condition on the index that is walked along.
    pub(super) range: String,
    /// The conditions on a row of the page. Empty: every row.
    pub(super) filter: Vec<String>,
    /// The columns of the order. Together they are unique.
    pub(super) order: &'a [&'a str],
    pub(super) descending: bool,
    /// Rows that are read, at most.
    pub(super) most: i64,
    /// Rows of the page, at most.
    pub(super) limit: usize,
    /// Whether the user has no conditions.
    pub(super) is_plain: bool,
}

/// A statement of a page, with every value bound and none spliced.
pub(super) struct PageQuery {
    pub(super) sql: String,
    pub(super) values: Values,
    /// Whether it is kept prepared. Not if it has conditions of a user: they are of endless variety and would fill the connection's memory.
    pub(super) is_kept: bool,
}

impl PageQuery {
    /// Fills a statement's braces. It returns one row more than the page has, which shows whether there is another page.
    pub(super) fn of(template: &str, parts: PageParts<'_>, mut values: Values) -> Self {
        let PageParts { range, filter, order, descending, most, limit, is_plain } = parts;
        let direction = if descending { "DESC" } else { "ASC" };
        let order: Vec<String> = order.iter().map(|column| format!("{column} {direction}")).collect();
        let limit = values.bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1));
        let sql = template
            .replace("{filter}", &if filter.is_empty() { "true".to_owned() } else { filter.join(" AND ") })
            .replace("{range}", &range)
            .replace("{order}", &order.join(", "))
            .replace("{most}", &most.to_string())
            .replace("{limit}", &limit);
        Self { sql, values, is_kept: is_plain }
    }

    /// Its rows.
    pub(super) async fn rows(&self, snapshot: &Snapshot<'_>) -> Result<Vec<Row>> {
        let rows = async {
            if !self.is_kept {
                return snapshot.typed_rows(&self.sql, &self.values.typed()).await;
            }
            // Planning such a statement takes longer than running it.
            let types: Vec<Type> = self.values.0.iter().map(|(_, sql_type)| sql_type.clone()).collect();
            let statement = snapshot.prepare_kept(&self.sql, &types).await?;
            snapshot.collect(&statement, &self.values.params()).await
        };
        rows.await.map_err(|error| unavailable(&error))
    }
}

/// The condition that a row comes behind one that has these values in the columns of the order.
pub(super) fn behind(columns: &[&str], values: &[String], descending: bool) -> String {
    let beyond = if descending { "<" } else { ">" };
    format!("({}) {beyond} ({})", columns.join(", "), values.join(", "))
}

/// A value that a statement is put together with.
pub(super) trait BoundValue: ToSql + Sync + Send + 'static {
    /// The type of its parameter.
    const SQL_TYPE: Type;
}

macro_rules! bound_values {
    ($($type:ty: $sql_type:ident),* $(,)?) => {
        $(impl BoundValue for $type {
            const SQL_TYPE: Type = Type::$sql_type;
        })*
    };
}

bound_values! {
    bool: BOOL, i32: INT4, i64: INT8, f32: FLOAT4, f64: FLOAT8, String: TEXT, Uuid: UUID, Timestamp: TIMESTAMPTZ,
    Vec<i16>: INT2_ARRAY, Vec<String>: TEXT_ARRAY, Vec<&'static str>: TEXT_ARRAY, Vec<Uuid>: UUID_ARRAY,
}

/// The values of a statement that is put together, with their types.
#[derive(Default)]
pub(super) struct Values(Vec<(Box<dyn ToSql + Sync + Send>, Type)>);

impl Values {
    /// Binds a value and returns its parameter, such as `$3`.
    pub(super) fn bind<T: BoundValue>(&mut self, value: T) -> String {
        self.0.push((Box::new(value), T::SQL_TYPE));
        format!("${}", self.0.len())
    }

    /// The values in order.
    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.0.iter().map(|(value, _)| &**value as &(dyn ToSql + Sync)).collect()
    }

    /// The values in order, each with its type.
    pub(super) fn typed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.0.iter().map(|(value, sql_type)| (&**value as &(dyn ToSql + Sync), sql_type.clone())).collect()
    }
}

/// The smallest and largest value that a column can have where all clauses hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnBounds<T> {
    /// The smallest value. None: no bound.
    pub(super) low: Option<T>,
    /// The largest value. None: no bound.
    pub(super) high: Option<T>,
}

impl<T> Default for ColumnBounds<T> {
    fn default() -> Self {
        Self { low: None, high: None }
    }
}

impl<T: Ord + Clone> ColumnBounds<T> {
    /// The bounds of a column that one of some alternatives compares.
    pub(super) fn of(any_of: &[Test<T>]) -> Self {
        let lows = any_of.iter().map(|test| match test.comparison {
            Comparison::Equal | Comparison::Greater | Comparison::GreaterOrEqual => Some(test.value.clone()),
            Comparison::NotEqual | Comparison::Less | Comparison::LessOrEqual => None,
        });
        let highs = any_of.iter().map(|test| match test.comparison {
            Comparison::Equal | Comparison::Less | Comparison::LessOrEqual => Some(test.value.clone()),
            Comparison::NotEqual | Comparison::Greater | Comparison::GreaterOrEqual => None,
        });
        // One alternative without a bound leaves none.
        let low = lows.collect::<Option<Vec<T>>>().and_then(|lows| lows.into_iter().min());
        let high = highs.collect::<Option<Vec<T>>>().and_then(|highs| highs.into_iter().max());
        Self { low, high }
    }

    /// The bounds where both hold.
    pub(super) fn and(self, other: Self) -> Self {
        let low = match (self.low, other.low) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        let high = match (self.high, other.high) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { low, high }
    }

    /// The condition on a column, each part after an AND. Empty: none.
    pub(super) fn condition(self, column: &str, sql_type: &str, values: &mut Values) -> String
    where
        T: BoundValue,
    {
        let mut part = |operator: &str, bound: Option<T>| {
            bound.map_or(String::new(), |bound| format!(" AND {column} {operator} {}::{sql_type}", values.bind(bound)))
        };
        [part(">=", self.low), part("<=", self.high)].concat()
    }
}

/// The operator of a comparison. A null differs from every value, and meets no other comparison.
pub(super) fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "IS DISTINCT FROM",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

/// The condition that an expression of an SQL type meets any of some tests.
pub(super) fn any_of<T>(expression: &str, tests: &[Test<T>], sql_type: &str, values: &mut Values) -> String
where
    T: BoundValue + Clone,
{
    let mut one = |test: &Test<T>| {
        format!("{expression} {} {}::{sql_type}", operator(test.comparison), values.bind(test.value.clone()))
    };
    tests.iter().map(&mut one).collect::<Vec<_>>().join(" OR ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tests: &[(Comparison, i64)]) -> (Option<i64>, Option<i64>) {
        let tests: Vec<Test<i64>> =
            tests.iter().map(|(comparison, value)| Test { comparison: *comparison, value: *value }).collect();
        let ColumnBounds { low, high } = ColumnBounds::of(&tests);
        (low, high)
    }

    #[test]
    fn bounds_contain_every_value_that_an_alternative_allows() {
        use Comparison::*;
        assert_eq!(of(&[(Equal, 5)]), (Some(5), Some(5)));
        assert_eq!(of(&[(Equal, 5), (Equal, 2)]), (Some(2), Some(5)));
        assert_eq!(of(&[(Less, 5)]), (None, Some(5)));
        assert_eq!(of(&[(Less, 5), (Greater, 9)]), (None, None));
        assert_eq!(of(&[(GreaterOrEqual, 5), (Equal, 9)]), (Some(5), None));
        assert_eq!(of(&[(Equal, 5), (NotEqual, 9)]), (None, None));
    }

    #[test]
    fn bounds_of_several_clauses_are_the_narrowest() {
        let bounds = |low, high| ColumnBounds { low, high };
        let narrow = bounds(Some(1), None).and(bounds(Some(3), Some(9))).and(bounds(None, Some(12)));
        assert_eq!(narrow, bounds(Some(3), Some(9)));
    }
}
