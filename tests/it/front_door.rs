//! What strangers send: connections that misuse HTTP/2 get nothing from those who use it well, and calls without a credential get nothing
//! at all.

mod arrivals;
mod cancels;
mod connection_shares;
pub mod credentials;
mod floods;
mod rates;
mod refusal_floods;
mod shares;
mod slow_watches;
pub mod tls;
mod wire;
