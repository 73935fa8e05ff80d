//! The commit statement: one for all, put together from the parts that a group needs.
//!
//! A group that only notes progress carries two parts, not thirty-six; which parts those are is the statement's name, and a
//! connection prepares each combination once.

use std::fmt::Write as _;

use super::plan::{PARTS, Part};

/// Which of [`PARTS`] a statement has, a bit each.
pub type Shape = u128;

/// The text for a shape. Its first parameters are the component numbers and how many guards each must meet, the group's id,
/// then those of each part in order. It returns one row: the applied components, the clock, and each write's row count.
pub fn text(shape: Shape) -> String {
    let parts: Vec<&Part> = parts(shape).map(|(_, part)| part).collect();
    let mut sql = String::from("WITH ");
    let mut next = 4;
    for part in parts.iter().filter(|part| part.is_guard) {
        let _ = write!(sql, "{} AS MATERIALIZED ({}), ", part.name, shifted(part.sql, &mut next));
    }
    let met: Vec<String> =
        parts.iter().filter(|part| part.is_guard).map(|part| format!("SELECT c FROM {}", part.name)).collect();
    let _ = write!(
        sql,
        "ok AS MATERIALIZED (SELECT e.c FROM unnest($1::int4[], $2::int8[]) AS e(c, guards) \
         JOIN (SELECT c, count(*) AS met FROM ({}) m GROUP BY c) m ON m.c = e.c AND m.met = e.guards)",
        met.join(" UNION ALL ")
    );
    for part in parts.iter().filter(|part| !part.is_guard) {
        let _ = write!(sql, ", {} AS ({})", part.name, shifted(part.sql, &mut next));
    }
    let writes: Vec<&&Part> = parts.iter().filter(|part| !part.is_guard).collect();
    if writes.is_empty() {
        // A group of answers that write nothing leaves no trace; the id is named so that the parameters stay the same.
        sql.push_str(" SELECT (SELECT coalesce(array_agg(c), '{}') FROM ok), clock_timestamp(), $3::uuid");
    } else {
        sql.push_str(
            ", noted AS (INSERT INTO write_groups (group_id, components, commit_time) \
             SELECT $3::uuid, coalesce(array_agg(c), '{}'), clock_timestamp() FROM ok RETURNING components) \
             SELECT (SELECT components FROM noted), clock_timestamp(), $3::uuid",
        );
    }
    for part in writes {
        let _ = write!(sql, ", (SELECT count(*) FROM {})", part.name);
    }
    sql
}

/// The parts of a shape with their places in [`PARTS`].
pub fn parts(shape: Shape) -> impl Iterator<Item = (usize, &'static Part)> {
    PARTS.iter().enumerate().filter(move |(i, _)| shape & (1 << i) != 0)
}

/// A part's text with its parameters counted from `next` on, which moves behind them; without its comment lines.
fn shifted(sql: &str, next: &mut usize) -> String {
    let body: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let body = body.join(" ");
    let mut out = String::with_capacity(body.len());
    let (mut highest, mut rest) = (0, body.as_str());
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let digits = rest[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = rest[at + 1..at + 1 + digits].parse().expect("a parameter in our SQL has a number");
        highest = highest.max(number);
        let _ = write!(out, "${}", number + *next - 1);
        rest = &rest[at + 1 + digits..];
    }
    out.push_str(rest);
    *next += highest;
    out
}
