//! Operations on permits and resources.
//!
//! Layout: `resource_tx` has the resources that an operation changes, and serves their wait queues when it finishes; `stage_queue` the entry of
//! stages in them. `acquire`, `renew`, `release` and `end_wait` are called by callers, `resource` and `revoke` by operators, `stages` by
//! operations that start or end attempts, `wake` by background loops.

pub mod acquire;
pub mod end_wait;
pub mod release;
pub mod renew;
pub mod resource;
pub(super) mod resource_tx;
pub mod revoke;
mod stage_queue;
pub(super) mod stages;
pub mod wake;

use crate::domain::id::NamespaceId;
use crate::domain::permit::{Blocker, Granted, PermitToken, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::operation::overlay::{Key, Overlay};

/// Reply to a request for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermitReply {
    /// The permit was granted.
    Granted(Vec<Granted>),
    /// The caller was added to wait queues.
    Waiting,
    /// The permit is not available now.
    Denied(Vec<Blocker>),
}

/// Keys of resources by name.
fn keys<'a>(namespace: NamespaceId, names: impl Iterator<Item = &'a str>) -> Vec<Key> {
    names.map(|name| Key::Resource(ResourceKey::of(namespace, name))).collect()
}

/// Checks that the permit of a token is held at all of its resources; the commit checks it again. Returns their keys.
pub(super) fn expect_permit(
    overlay: &mut Overlay,
    namespace: NamespaceId,
    token: PermitToken,
) -> Result<Vec<ResourceKey>, Refusal> {
    let resource = overlay.resource(token.key()).ok_or(Refusal::PermitLost)?;
    let permit = resource.held_permit(&token.id).filter(|_| token.namespace == namespace);
    let keys = permit.ok_or(Refusal::PermitLost)?.keys(token.key());
    for key in &keys {
        let resource = overlay.resource(*key);
        if resource.is_none_or(|resource| resource.held_permit(&token.id).is_none()) {
            return Err(Refusal::PermitLost);
        }
    }
    Ok(keys)
}
