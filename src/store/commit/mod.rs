//! The group commit: one statement that checks what the group's decisions were made on, writes the components for which all of it holds, and
//! returns which those were.

pub mod columns;
pub mod lane;
pub(super) mod plan;
pub mod resolve;
mod statement;

use std::collections::BTreeMap;
use std::time::Instant;

use foldhash::{HashMap, HashSet};
use postgres_types::ToSql;
use tokio_postgres::Statement;
use uuid::Uuid;

use columns::Columns as _;
use columns::{ComponentRow, Components};
pub use plan::{CommitMode, Plan};
use statement::Shape;

use crate::domain::time::Timestamp;
use crate::store::pg::connection::{DbError, Explained, Fault, Run, ends_session};
use plan::PARTS;

/// The number of shapes that a connection keeps prepared.
const MAX_PREPARED: usize = 200;

/// The commit statements that a connection has prepared.
#[derive(Default)]
pub struct Prepared {
    statements: HashMap<Shape, Statement>,
}

/// The outcome of a group.
#[derive(Debug)]
pub struct Committed {
    /// The components that were applied, or of which all guards hold where they write nothing.
    pub components: Vec<i32>,
    /// The time that the statement read from the database's clock, before its writes were durable, and when it was sent. None: no statement was
    /// sent.
    pub clock: Option<(Timestamp, Instant)>,
}

/// Why a group was not committed, or may not have been.
#[derive(Debug)]
pub enum CommitError {
    /// The database rolled the group back.
    RolledBack(Fault),
    /// The connection was lost with this error. The group may have been committed.
    Lost(String),
}

impl Plan {
    /// The components that have something to prove: how many guards must be met (what proves itself counts as one that is), and the weight of
    /// the rows that are written.
    fn guarded(&self) -> BTreeMap<i32, (i64, i64)> {
        let mut guarded: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        for (place, (part, columns)) in PARTS.iter().zip(self.columns()).enumerate() {
            for c in columns.components() {
                if part.is_guard || part.proves_itself {
                    guarded.entry(*c).or_default().0 += 1;
                } else if part.is_counted() {
                    guarded.entry(*c).or_default().1 += statement::weight(place);
                }
            }
        }
        debug_assert!(guarded.values().all(|(guards, _)| *guards > 0), "what is written is guarded");
        guarded
    }

    fn shape(&self) -> Shape {
        self.columns().iter().enumerate().filter(|(_, c)| !c.components().is_empty()).map(|(i, _)| 1 << i).sum()
    }

    /// Whether there are no guards and no writes.
    pub fn is_empty(&self) -> bool {
        self.shape() == 0
    }

    /// The components that have guards.
    pub fn components(&self) -> HashSet<i32> {
        self.guarded().into_keys().collect()
    }

    /// Sends the group in one statement. `group_id`: the id by which [`resolve`] finds the outcome if the connection is lost.
    pub async fn commit(
        &self,
        client: &impl Run,
        prepared: &mut Prepared,
        group_id: Uuid,
    ) -> Result<Committed, CommitError> {
        let shape = self.shape();
        let statement = prepared.get(client, shape).await?;
        let mut components = Components::default();
        for (c, (guards, weight)) in self.guarded() {
            components.push(ComponentRow { c, guards, weight });
        }
        let mut params = components.params();
        let history = self.insert_events.history();
        params.extend([&group_id as &(dyn ToSql + Sync), &history]);
        let columns = self.columns();
        for (i, _) in statement::parts(shape) {
            params.extend(columns[i].params());
        }
        let sent = Instant::now();
        let rows = client.collect(&statement, &params).await.map_err(CommitError::of)?;
        let row = rows.first().ok_or_else(|| CommitError::Lost("the statement returned nothing".to_owned()))?;
        Ok(Committed { components: row.get(0), clock: Some((row.get(1), sent)) })
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
        // Nothing was executed yet, so even after a lost connection nothing was applied.
        let statement = client
            .prepare_new(&statement::text(shape))
            .await
            .map_err(|error| CommitError::RolledBack(Fault::of(&error)))?;
        self.statements.insert(shape, statement.clone());
        Ok(statement)
    }
}

impl CommitError {
    /// The outcome of an error of the commit statement, or of a COMMIT.
    pub fn of(error: DbError) -> Self {
        // An SQLSTATE proves that the statement was rolled back, unless the server shuts down (57P, 08) or ends the session: where Postgres panics
        // while it writes its log, the commit may be in that log.
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

#[cfg(test)]
pub(super) mod tests;
