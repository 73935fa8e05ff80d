//! The commit statement: one for all, put together from the parts that a group needs.
//!
//! A group that only notes progress carries two parts of more than sixty; which parts those are is the statement's name, and a
//! connection prepares each combination once.
//!
//! The statement counts the rows that it wrote and fails if they are not those that were meant, so a fault never commits. One sum stands for
//! the counts of all parts: each part has a weight of its own, so rows that are missing in one part are not made up for by rows of another.

use std::fmt::Write as _;

use super::plan::{MAY_MISS, PARTS, Part};

/// Which of [`PARTS`] a statement has, a bit each.
pub type Shape = u128;

/// How many parameters stand before those of the parts: component numbers, guards per component, group id, sums of rows per component.
pub const OWN_PARAMS: usize = 4;

/// The text for a shape. Its first parameters are the component numbers, how many guards each must meet, the group's id, and the sum of the
/// rows that each writes (see [`weight`]); then those of each part in order. It returns one row: the applied components and the clock. It fails
/// with a serialization failure if a write that is its own proof wrote less than was meant, and with a data error if the other writes
/// changed other rows than were meant.
pub fn text(shape: Shape) -> String {
    let parts: Vec<&Part> = parts(shape).map(|(_, part)| part).collect();
    let guards: Vec<&str> = parts.iter().filter(|part| part.is_guard).map(|part| part.name).collect();
    let mut sql = String::from("WITH ");
    let mut next = OWN_PARAMS + 1;
    for part in parts.iter().filter(|part| part.is_guard) {
        let _ = write!(sql, "{} AS MATERIALIZED ({}), ", part.name, shifted(part.sql, &mut next));
    }
    let (mut written, mut proving) = (String::new(), Vec::new());
    for part in parts.iter().filter(|part| !part.is_guard) {
        proving.extend(part.proves_itself.then(|| (part.name, format!("${next}::int4[]"))));
        let mut write = shifted(part.sql, &mut next);
        if part.proves_itself && guards.is_empty() {
            // All components are written, and those of what proves itself are among them by definition.
            write = write.replace("JOIN ok USING (c)", "");
        }
        let _ = write!(written, ", {} AS ({write})", part.name);
    }
    sql.push_str(&ok(&guards, &proving));
    sql.push_str(&written);
    if parts.iter().all(|part| part.is_guard) {
        // A group of answers that write nothing leaves no trace; the id is named so that the parameters stay the same.
        sql.push_str(" SELECT (SELECT coalesce(array_agg(c), '{}') FROM ok), clock_timestamp(), $3::uuid");
        return sql;
    }
    sql.push_str(
        ", noted AS (INSERT INTO write_groups (group_id, components, commit_time) \
         SELECT $3::uuid, coalesce(array_agg(c), '{}'), clock_timestamp() FROM ok RETURNING components) \
         SELECT (SELECT components FROM noted), clock_timestamp(), $3::uuid",
    );
    for (name, c) in proving {
        let meant = match &*guards {
            [] => format!("cardinality({c})"),
            _ => format!("(SELECT count(*) FROM unnest({c}) AS p(c) JOIN ok USING (c))"),
        };
        let _ = write!(sql, ", insist((SELECT count(*) FROM {name}) = {meant})");
    }
    sql.push_str(&counted(shape));
    sql
}

/// The check of how many rows were written, if the shape has parts whose rows are counted.
fn counted(shape: Shape) -> String {
    let counted: Vec<String> = parts(shape)
        .filter(|(_, part)| part.is_counted())
        .map(|(place, part)| format!("(SELECT count(*) FROM {}) * {}", part.name, weight(place)))
        .collect();
    if counted.is_empty() {
        return String::new();
    }
    format!(", assert_rows({}, (SELECT coalesce(sum(meant), 0)::int8 FROM ok))", counted.join(" + "))
}

/// What one row of the part at this place in [`PARTS`] adds to the sum of written rows: distinct odd numbers below 2³², far apart
/// (multiples of 2³² divided by the golden ratio, Knuth's multiplicative hash).
pub fn weight(place: usize) -> i64 {
    let place = u32::try_from(place).expect("fewer than 128 parts") + 1;
    i64::from(place.wrapping_mul(0x9E37_79B1) | 1)
}

impl Part {
    /// Whether its rows are counted before the commit. What proves itself is counted apart, and some rows need not exist.
    pub fn is_counted(&self) -> bool {
        !self.is_guard && !self.proves_itself && !MAY_MISS.contains(&self.name)
    }
}

/// The components that meet all their guards: all of them, if there are none. What proves itself (by name and component numbers) counts
/// as a guard that is met.
fn ok(guards: &[&str], proving: &[(&str, String)]) -> String {
    let components = "(SELECT unnest($1::int4[]) AS c, unnest($2::int8[]) AS guards, unnest($4::int8[]) AS meant) AS e";
    if guards.is_empty() {
        return format!("ok AS MATERIALIZED (SELECT e.c, e.meant FROM {components})");
    }
    let mut met: Vec<String> = guards.iter().map(|guard| format!("SELECT c FROM {guard}")).collect();
    met.extend(proving.iter().map(|(_, c)| format!("SELECT unnest({c}) AS c")));
    let met = met.join(" UNION ALL ");
    format!(
        "ok AS MATERIALIZED (SELECT e.c, e.meant FROM {components} \
         JOIN (SELECT c, count(*) AS met FROM ({met}) m GROUP BY c) m ON m.c = e.c AND m.met = e.guards)"
    )
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
