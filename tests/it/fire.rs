//! The engine under fire: several servers, crashes, contention, and workers that come back too late.
//!
//! By default each test is a small run that every `cargo test` can afford. `INTERLOCK_FIRE=5 cargo test --release
//! --test it fire:: -- --nocapture` makes everything five times as long: 20 kills of servers and 10 of Postgres. Larger
//! numbers make larger runs; the writers and the kills have no upper bound. Each test prints what it counted, and fails if
//! that was too little to prove anything.

mod answers;
pub mod fleet;
mod histories;
mod kills;
mod lost_replies;
mod permit_histories;
mod record_kills;
mod records;
mod renewed_leases;
mod repeats;
mod stopped_holders;
mod stopped_workers;
mod streams;
mod work_sessions;
mod writers;

/// How many times the default size a run has.
fn scale() -> usize {
    let text = std::env::var("INTERLOCK_FIRE").unwrap_or_default();
    if text.is_empty() { 1 } else { text.parse().expect("INTERLOCK_FIRE is a whole number") }
}

/// One of them, at random.
fn any<T>(of: &[T]) -> &T {
    &of[rand::random_range(0..of.len())]
}
