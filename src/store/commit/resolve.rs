//! The outcome of a group whose connection was lost while it was being committed.

use uuid::Uuid;

use crate::store::pg::connection::{DbResult, Run};

/// The applied components of the group. None: it was not committed and never will be.
pub async fn resolve_commit(client: &impl Run, group_id: Uuid) -> DbResult<Option<Vec<i32>>> {
    if !client.rows(include_str!("../sql/group/resolve_commit.sql"), &[&group_id]).await?.is_empty() {
        return Ok(None);
    }
    let rows = client.rows(include_str!("../sql/group/group_components.sql"), &[&group_id]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}
