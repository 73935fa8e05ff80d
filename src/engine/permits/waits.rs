//! Callers who wait here for permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::HashMap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::domain::permit::resource::Resource;
use crate::domain::permit::{Granted, Permit, ResourceKey};

/// What a waiting caller hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Its permit was granted, at all of its resources.
    Granted(Vec<Granted>),
    /// Something happened to it that has to be looked at.
    Look,
}

/// Who waits here, by the permit that it waits for.
#[derive(Default)]
pub struct Waits {
    /// So that nothing is done for none.
    count: AtomicUsize,
    waiting: Mutex<HashMap<Uuid, Waiting>>,
}

struct Waiting {
    resources: Vec<ResourceKey>,
    granted: Vec<Granted>,
    signal: mpsc::Sender<Signal>,
}

/// One who waits, until it is dropped.
pub struct Wait {
    waits: Arc<Waits>,
    id: Uuid,
    heard: mpsc::Receiver<Signal>,
}

impl Waits {
    /// Begins to wait for a permit, before it is asked for.
    pub fn begin(self: &Arc<Self>, id: Uuid, resources: Vec<ResourceKey>) -> Wait {
        // One grant and one look: whoever was told to look sees all that came before.
        let (signal, heard) = mpsc::channel(2);
        self.waiting.lock().insert(id, Waiting { resources, granted: Vec::new(), signal });
        self.count.fetch_add(1, Ordering::Release);
        Wait { waits: self.clone(), id, heard }
    }

    /// Whether nobody waits here.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// How many wait here.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// A permit was granted at one resource; whoever waits for it is told when that is so at all.
    pub fn granted(&self, resource: &Resource, permit: &Permit) {
        let mut waiting = self.waiting.lock();
        let Some(waits) = waiting.get_mut(&permit.id) else { return };
        waits.granted.push(Granted {
            key: resource.key,
            resource: resource.name.clone(),
            fencing_token: permit.fencing_token,
            expires_at: permit.expires_at,
        });
        if waits.granted.len() == waits.resources.len() {
            let granted = std::mem::take(&mut waits.granted);
            // Who has not heard the last signal yet will look anyway.
            let _full = waits.signal.try_send(Signal::Granted(granted));
        }
    }

    /// Somebody has to look what became of its wish.
    pub fn look(&self, id: &Uuid) {
        if let Some(waits) = self.waiting.lock().get(id) {
            let _full = waits.signal.try_send(Signal::Look);
        }
    }

    /// All that are waited for, with the first resource of each.
    pub fn all(&self) -> Vec<(ResourceKey, Uuid)> {
        let waiting = self.waiting.lock();
        waiting.iter().filter_map(|(id, waits)| Some((*waits.resources.first()?, *id))).collect()
    }
}

impl Wait {
    /// Waits for a signal.
    pub async fn signal(&mut self) -> Signal {
        // The other end lives as long as this one.
        self.heard.recv().await.unwrap_or(Signal::Look)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waits.waiting.lock().remove(&self.id);
        self.waits.count.fetch_sub(1, Ordering::Release);
    }
}
