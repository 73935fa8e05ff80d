//! What happens to a resource by itself: permits expire, tokens come, breakers let probes through; and nobody is left to call.

use super::desk::Desk;
use crate::domain::permit::ResourceKey;
use crate::domain::refusal::Refusal;
use crate::domain::time::Timestamp;
use crate::engine::world::{Key, World};
use crate::operation::{Operation, Reply};

/// Looks whether something is due at a resource, and serves its line.
#[derive(Debug)]
pub struct WakeResource {
    /// Which.
    pub key: ResourceKey,
}

impl Operation for WakeResource {
    fn name(&self) -> &'static str {
        "wake_resource"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.key)]
    }

    fn is_urgent(&self) -> bool {
        true
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let mut desk = Desk::new(world, self.key.namespace);
        desk.drop_gone(self.key);
        desk.look(self.key);
        let applied = desk.close();
        Ok(Reply { applied, ..Reply::default() })
    }
}

/// No more stages wait for a resource, as far as somebody saw who called them.
#[derive(Debug)]
pub struct ClearTurn {
    /// Which resource.
    pub key: ResourceKey,
    /// When the turn began that was looked at; another one stays.
    pub arrival: Timestamp,
}

impl Operation for ClearTurn {
    fn name(&self) -> &'static str {
        "clear_turn"
    }

    fn keys(&self) -> Vec<Key> {
        vec![Key::Resource(self.key)]
    }

    fn decide(&self, world: &mut World) -> Result<Reply, Refusal> {
        let mut desk = Desk::new(world, self.key.namespace);
        let arrival = self.arrival;
        let turn = desk.get(self.key).map(|resource| &mut resource.state.turn);
        if turn.is_some_and(|turn| turn.take_if(|turn| turn.arrival == arrival).is_some()) {
            desk.changed(self.key);
        }
        let applied = desk.close();
        Ok(Reply { applied, ..Reply::default() })
    }
}
