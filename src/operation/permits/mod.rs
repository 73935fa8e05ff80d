//! What happens to permits and their resources.
//!
//! Layout: `desk` is the workbench of all: resources that an operation works on, and the line of each, served when it closes; `stage_line` is
//! the place of stages in it; `acquire`,
//! `renew`, `release` and `end_wait` are what callers do; `stages` is what the permits of stages need; `resource`
//! sets rules, and `revoke` takes a permit away, for operators;
//! `wake` is what happens by itself.

pub mod acquire;
pub(super) mod desk;
pub mod end_wait;
pub mod release;
pub mod renew;
pub mod resource;
pub mod revoke;
mod stage_line;
pub(super) mod stages;
pub mod wake;

use crate::domain::id::NamespaceId;
use crate::domain::permit::{Blocker, Granted, PermitToken, ResourceKey};
use crate::domain::refusal::Refusal;
use crate::operation::overlay::{Key, Overlay};

/// What became of a wish for a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PermitReply {
    /// It was granted.
    Granted(Vec<Granted>),
    /// Its turn will come.
    Waiting,
    /// It cannot be had now.
    Denied(Vec<Blocker>),
}

/// The keys of resources that are named.
fn keys<'a>(namespace: NamespaceId, names: impl Iterator<Item = &'a str>) -> Vec<Key> {
    names.map(|name| Key::Resource(ResourceKey::of(namespace, name))).collect()
}

/// The permit of a token is held at all of its resources, and stays so until what stands on this is committed. Returns which these are.
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
