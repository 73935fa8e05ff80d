//! What strangers send: connections that misuse HTTP/2 get nothing from those who use it well, and calls without a credential get nothing
//! at all.

mod arrivals;
mod cancels;
pub mod credentials;
mod floods;
mod rates;
mod shares;
mod strangers;
mod tls;
mod wire;
