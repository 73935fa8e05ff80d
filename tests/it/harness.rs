//! What all tests of the server stand on: servers over real databases, clients, messages, and waits with a deadline.
//!
//! Each test has a database of its own, so tests run side by side and in any order. No test sleeps for something to
//! happen: [`eventually`] looks again and again until it has, or until a deadline that only a broken server meets.

mod api;
mod authority;
mod collector;
mod directory;
mod messages;
mod permits;
mod pooler;
mod program;
mod proxy;
mod records;
mod server;
mod standby;
mod timelines;
mod watch;
mod work;

use std::time::{Duration, Instant};

pub use api::{Api, field, ok, refused, token, within};
pub use authority::{Authority, AuthorityFiles, Issued};
pub use collector::{Collector, attribute};
pub use directory::Directory;
pub use messages::*;
pub use permits::*;
pub use pooler::Pooler;
pub use program::{Log, Program};
pub use proxy::{Mode, Proxy};
pub use records::*;
pub use server::{Database, Server, sql};
pub use standby::Standby;
pub use timelines::*;
pub use watch::{Watch, WatchMessage, state_changes};
pub use work::{Session, begin};

/// Far beyond what anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until `look` finds something, and returns it.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
