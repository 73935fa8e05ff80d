//! The commit statement: one statement that is put together from the parts that a group needs.
//!
//! A group that only renews leases has two of more than sixty parts. Which parts a statement has is its shape; a connection prepares each shape
//! once.
//!
//! The statement counts the rows that it wrote and fails if they are not those that were planned, so a fault never commits. One sum stands for
//! the counts of all parts: each part has a weight of its own, so rows that are missing in one part are not made up for by rows of another.

use std::fmt::Write as _;

use super::columns::Components;
use super::plan::{MAY_MISS, PARTS, StatementPart};
use crate::store::table::Column;

/// Which of [`PARTS`] a statement has, a bit each.
pub type Shape = u128;

/// The parameter of the group's id, behind those of [`Components`].
const GROUP_ID: usize = Components::COLUMNS.len() + 1;

/// The parameter of the jobs of which the group writes history. The parameters of the parts follow it.
const HISTORY: usize = GROUP_ID + 1;

/// The text for a shape. Its parameters are the columns of [`Components`], the group's id, the jobs of which it writes history, and the
/// columns of each part in order. It returns one
/// row: the applied components and the clock. It fails with a serialization failure if a write that is its own proof wrote fewer rows than were
/// planned, and with a data error if the other writes wrote other rows than were planned.
pub fn text(shape: Shape) -> String {
    let parts: Vec<&StatementPart> = parts(shape).map(|(_, part)| part).collect();
    let guards: Vec<&str> = parts.iter().filter(|part| part.is_guard).map(|part| part.name).collect();
    let mut sql = String::from("WITH ");
    let mut next = HISTORY + 1;
    for part in parts.iter().filter(|part| part.is_guard) {
        let _ = write!(sql, "{} AS MATERIALIZED ({}), ", part.name, part.text(next));
        next += part.columns.len();
    }
    let (mut written, mut proving) = (String::new(), Vec::new());
    for part in parts.iter().filter(|part| !part.is_guard) {
        proving.extend(part.proves_itself.then(|| (part.name, format!("${next}::int4[]"))));
        let mut write = part.text(next);
        next += part.columns.len();
        if part.proves_itself && guards.is_empty() {
            // All components are written, and those of what proves itself are among them by definition.
            write = write.replace("JOIN ok USING (c)", "");
        }
        let _ = write!(written, ", {} AS ({write})", part.name);
    }
    sql.push_str(&ok(&guards, &proving));
    sql.push_str(&written);
    if parts.iter().all(|part| part.is_guard) {
        // A group that writes nothing leaves no row of its own; its id is named so that the parameters stay the same.
        let _ = write!(
            sql,
            " SELECT (SELECT coalesce(array_agg(c), '{{}}') FROM ok), clock_timestamp(), ${GROUP_ID}::uuid, ${HISTORY}::bytea"
        );
        return sql;
    }
    let _ = write!(
        sql,
        ", noted AS (INSERT INTO write_groups (group_id, components, commit_time, history) \
         SELECT ${GROUP_ID}::uuid, coalesce(array_agg(c), '{{}}'), clock_timestamp(), ${HISTORY}::bytea FROM ok RETURNING components) \
         SELECT (SELECT components FROM noted), clock_timestamp(), ${GROUP_ID}::uuid",
    );
    for (name, c) in proving {
        let planned = match &*guards {
            [] => format!("cardinality({c})"),
            _ => format!("(SELECT count(*) FROM unnest({c}) AS p(c) JOIN ok USING (c))"),
        };
        let _ = write!(sql, ", insist((SELECT count(*) FROM {name}) = {planned})");
    }
    sql.push_str(&assert_rows(shape));
    sql
}

/// The check of how many rows were written, if the shape has parts whose rows are counted.
fn assert_rows(shape: Shape) -> String {
    let counted: Vec<String> = parts(shape)
        .filter(|(_, part)| part.is_counted())
        .map(|(place, part)| format!("(SELECT count(*) FROM {}) * {}", part.name, weight(place)))
        .collect();
    if counted.is_empty() {
        return String::new();
    }
    format!(", assert_rows({}, (SELECT coalesce(sum(weight), 0)::int8 FROM ok))", counted.join(" + "))
}

/// What one row of the part at this place in [`PARTS`] adds to the sum of written rows: distinct odd numbers below 2³², far apart
/// (multiples of 2³² divided by the golden ratio, Knuth's multiplicative hash).
pub fn weight(place: usize) -> i64 {
    let place = u32::try_from(place).expect("fewer than 128 parts") + 1;
    i64::from(place.wrapping_mul(0x9E37_79B1) | 1)
}

impl StatementPart {
    /// Whether its rows are counted before the commit. What proves itself is counted apart, and some rows need not exist.
    pub fn is_counted(&self) -> bool {
        !self.is_guard && !self.proves_itself && !MAY_MISS.contains(&self.name)
    }

    /// The text of the part with its parameters numbered from `first` on, one for each column; without its comment lines. Names in braces are
    /// filled in: `{rows}` is the rows as a table `v`, `{columns}` and `{values}` are all columns but `c` without and with that name before them,
    /// and the name of a column is its parameter. In templates `{table}` is the name of the table, and `{match}` the condition that its row `t` is
    /// the one that `v` names.
    pub fn text(&self, first: usize) -> String {
        let lines: Vec<&str> = self.sql.lines().filter(|line| !line.starts_with("--")).collect();
        let names = |prefix: &str| {
            let names: Vec<String> = self.own_columns().iter().map(|(name, _)| format!("{prefix}{name}")).collect();
            names.join(", ")
        };
        let mut sql = lines
            .join(" ")
            .replace("{rows}", &rows(self.columns, first))
            .replace("{columns}", &names(""))
            .replace("{values}", &names("v."));
        if let Some(table) = self.table {
            sql = sql.replace("{table}", table.name).replace("{match}", &table.matches(self.own_columns()));
        }
        for (i, (name, sql_type)) in self.columns.iter().enumerate() {
            sql = sql.replace(&format!("{{{name}}}"), &format!("${}::{sql_type}[]", first + i));
        }
        sql
    }

    /// Its columns without the first, the number of the component.
    pub fn own_columns(&self) -> &'static [Column] {
        &self.columns[1..]
    }
}

/// Rows as a table `v`, from one array for each column. Unnested in the select list, where the arrays need no temporary store.
fn rows(columns: &[Column], first: usize) -> String {
    let unnest = |(i, (name, sql_type)): (usize, &Column)| format!("unnest(${}::{sql_type}[]) AS {name}", first + i);
    let columns: Vec<String> = columns.iter().enumerate().map(unnest).collect();
    format!("(SELECT {}) AS v", columns.join(", "))
}

/// The components that meet all their guards: all of them, if there are none. What proves itself (by name and component numbers) counts
/// as a guard that is met.
fn ok(guards: &[&str], proving: &[(&str, String)]) -> String {
    let components = rows(Components::COLUMNS, 1);
    if guards.is_empty() {
        return format!("ok AS MATERIALIZED (SELECT v.c, v.weight FROM {components})");
    }
    let mut met: Vec<String> = guards.iter().map(|guard| format!("SELECT c FROM {guard}")).collect();
    met.extend(proving.iter().map(|(_, c)| format!("SELECT unnest({c}) AS c")));
    let met = met.join(" UNION ALL ");
    format!(
        "ok AS MATERIALIZED (SELECT v.c, v.weight FROM {components} \
         JOIN (SELECT c, count(*) AS met FROM ({met}) m GROUP BY c) m ON m.c = v.c AND m.met = v.guards)"
    )
}

/// The parts of a shape with their places in [`PARTS`].
pub fn parts(shape: Shape) -> impl Iterator<Item = (usize, &'static StatementPart)> {
    PARTS.iter().enumerate().filter(move |(i, _)| shape & (1 << i) != 0)
}
