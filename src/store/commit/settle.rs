//! What became of a group whose connection was lost while it was being committed.

use uuid::Uuid;

use crate::store::connection::{DbResult, Run};

/// The applied components of the group, or `None` if it was not committed and never will be.
pub async fn settle(client: &impl Run, group_id: Uuid) -> DbResult<Option<Vec<i32>>> {
    if !client.rows(include_str!("../sql/settle_group.sql"), &[&group_id]).await?.is_empty() {
        return Ok(None);
    }
    let rows = client.rows(include_str!("../sql/group_components.sql"), &[&group_id]).await?;
    Ok(rows.first().map(|row| row.get(0)))
}
