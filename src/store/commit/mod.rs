//! The group commit: one statement that proves what the group's decisions stood on, writes the components for which all of it
//! holds, and says which those were.

mod child_rows;
pub mod columns;
mod credentials;
mod fields_text;
mod job_rows;
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

pub(super) use job_rows::FAILING;
pub use plan::Plan;
use statement::Shape;

use crate::domain::time::Timestamp;
use crate::store::connection::{DbError, Explained, Fault, Run, ends_session};
use plan::PARTS;

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
    /// The connection was lost, with this error; it may have been committed.
    Lost(String),
}

/// What becomes of a group in which some component stands on state that is no longer current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitMode {
    /// Each component is written or not by itself: roots are locked at their versions before they are written.
    #[default]
    PerComponent,
    /// Nothing of the group is written: an update of a record names the version that it replaces, and the statement fails unless all such
    /// updates hit. Saves locking the records first.
    AllOrNothing,
}

/// What must hold of one component.
#[derive(Default)]
struct Needs {
    /// Guards to be met; what proves itself counts as one that is.
    guards: i64,
    /// The sum of the rows that it writes, as the statement counts them; see [`statement::weight`].
    rows: i64,
}

impl Plan {
    /// What the statement has to know of each component that has something to prove.
    fn needs(&self) -> BTreeMap<i32, Needs> {
        let mut needs: BTreeMap<i32, Needs> = BTreeMap::new();
        for (place, (part, columns)) in PARTS.iter().zip(self.columns()).enumerate() {
            for c in columns.components() {
                if part.is_guard || part.proves_itself {
                    needs.entry(*c).or_default().guards += 1;
                } else if part.is_counted() {
                    needs.entry(*c).or_default().rows += statement::weight(place);
                }
            }
        }
        debug_assert!(needs.values().all(|needs| needs.guards > 0), "what is written is guarded");
        needs
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
        self.needs().into_keys().collect()
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
        let needs = self.needs();
        let components: Vec<i32> = needs.keys().copied().collect();
        let (guards, rows): (Vec<i64>, Vec<i64>) = needs.values().map(|needs| (needs.guards, needs.rows)).unzip();
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&components, &guards, &group_id, &rows];
        let columns = self.columns();
        for (i, _) in statement::parts(shape) {
            params.extend(columns[i].params());
        }
        let sent = Instant::now();
        let rows = client.collect(&statement, &params).await.map_err(CommitError::of)?;
        let row = rows.first().ok_or_else(|| CommitError::Lost("the statement returned nothing".to_owned()))?;
        Ok(Committed { components: row.get(0), told: Some((row.get(1), sent)) })
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
        // An SQLSTATE proves that the server undid the statement, unless it says that it is going away, or goes away with it: where
        // Postgres panics while it writes its log, the commit may stand in there.
        match error.code() {
            Some(code)
                if !code.code().starts_with("57P") && !code.code().starts_with("08") && !ends_session(&error) =>
            {
                Self::RolledBack(Fault::of(&error))
            }
            Some(_) | None => Self::Lost(Explained(&error).to_string()),
        }
    }
}

/// Text for a column that holds it as an owned string.
fn owned(text: &Arc<str>) -> String {
    text.to_string()
}

#[cfg(test)]
pub(super) mod tests;
