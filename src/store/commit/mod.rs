//! The group commit: one statement that proves what the group's decisions stood on, writes the components for which all of it
//! holds, and says which those were.

pub mod columns;
mod fields_text;
mod permits;
mod plan;
mod records;
mod rows;
pub mod settle;
mod statement;
#[cfg(test)]
pub mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use foldhash::{HashMap, HashSet};
use postgres_types::ToSql;
use tokio_postgres::Statement;
use uuid::Uuid;

pub use plan::Plan;
pub(super) use rows::FAILING;
use statement::Shape;

use crate::domain::time::Timestamp;
use crate::store::connection::{DbError, Fault, Run};
use plan::{MAY_MISS, PARTS};

/// How many combinations of parts a connection keeps prepared.
const MAX_PREPARED: usize = 200;

/// The commit statements that a connection has prepared.
#[derive(Default)]
pub struct Prepared {
    statements: HashMap<Shape, Statement>,
}

/// What became of a group.
#[derive(Debug)]
pub struct Committed {
    /// The components that were applied, or proved where they write nothing.
    pub components: Vec<i32>,
    /// The database's clock as the statement read it, before what it wrote was made durable, and when the statement was sent; `None`
    /// where none was.
    pub told: Option<(Timestamp, Instant)>,
}

/// Why a group was not committed for sure.
#[derive(Debug)]
pub enum CommitError {
    /// The database said so: rolled back.
    RolledBack(Fault),
    /// The connection was lost; it may have been committed.
    Lost(DbError),
    /// The database wrote other rows than were meant. It is committed; what was cached of it cannot be trusted.
    Mismatch(String),
}

impl Plan {
    /// How many guards each component must meet; what proves itself counts as one that is.
    fn guards(&self) -> BTreeMap<i32, i64> {
        let mut needed = BTreeMap::new();
        for (part, columns) in PARTS.iter().zip(self.columns()) {
            for c in columns.components().iter().filter(|_| part.is_guard || part.proves_itself) {
                *needed.entry(*c).or_insert(0) += 1;
            }
        }
        needed
    }

    fn shape(&self) -> Shape {
        self.columns().iter().enumerate().filter(|(_, c)| !c.components().is_empty()).map(|(i, _)| 1 << i).sum()
    }

    /// Whether there is nothing to prove and nothing to write.
    pub fn is_empty(&self) -> bool {
        self.shape() == 0
    }

    /// The components that have something to prove.
    pub fn components(&self) -> HashSet<i32> {
        self.guards().into_keys().collect()
    }

    /// Sends the group in one statement. `group_id` finds its outcome if the connection is lost.
    pub async fn commit(
        &self,
        client: &impl Run,
        prepared: &mut Prepared,
        group_id: Uuid,
    ) -> Result<Committed, CommitError> {
        let shape = self.shape();
        let statement = prepared.get(client, shape).await?;
        let (components, guards): (Vec<i32>, Vec<i64>) = self.guards().into_iter().unzip();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&components, &guards, &group_id];
        let columns = self.columns();
        for (i, _) in statement::parts(shape) {
            params.extend(columns[i].params());
        }
        let sent = Instant::now();
        let rows = client.collect(&statement, &params).await.map_err(CommitError::of)?;
        let row = rows.first().ok_or_else(|| CommitError::Mismatch("the statement returned nothing".to_owned()))?;
        let committed = Committed { components: row.get(0), told: Some((row.get(1), sent)) };
        self.check(shape, row, &committed.components)?;
        Ok(committed)
    }

    /// Compares what each part wrote with what was meant.
    fn check(&self, shape: Shape, row: &tokio_postgres::Row, applied: &[i32]) -> Result<(), CommitError> {
        let applied: HashSet<i32> = applied.iter().copied().collect();
        let columns = self.columns();
        let writes = statement::parts(shape).filter(|(_, part)| !part.is_guard);
        for (place, (i, part)) in writes.enumerate() {
            let written: i64 = row.get(place + 3);
            let meant = columns[i].components().iter().filter(|c| applied.contains(c)).count();
            if usize::try_from(written) != Ok(meant) && !MAY_MISS.contains(&part.name) {
                return Err(CommitError::Mismatch(format!("{} wrote {written} rows of {meant}", part.name)));
            }
        }
        Ok(())
    }
}

impl Prepared {
    async fn get(&mut self, client: &impl Run, shape: Shape) -> Result<Statement, CommitError> {
        if let Some(statement) = self.statements.get(&shape) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= MAX_PREPARED {
            self.statements.clear();
        }
        // Nothing was sent to be executed yet, so even a lost connection means: not applied.
        let statement =
            client.anew(&statement::text(shape)).await.map_err(|error| CommitError::RolledBack(Fault::of(&error)))?;
        self.statements.insert(shape, statement.clone());
        Ok(statement)
    }
}

impl CommitError {
    /// Of the statement that writes, or of a COMMIT.
    pub fn of(error: DbError) -> Self {
        // An SQLSTATE proves that the server undid the statement, unless it says that it is going away.
        match error.code() {
            Some(code) if !code.code().starts_with("57P") && !code.code().starts_with("08") => {
                Self::RolledBack(Fault::of(&error))
            }
            Some(_) | None => Self::Lost(error),
        }
    }
}

/// Text for a column that holds it as an owned string.
fn owned(text: &Arc<str>) -> String {
    text.to_string()
}

#[cfg(test)]
mod tests;
