//! What strangers send: connections that misuse HTTP/2 get nothing from those who use it well.

mod arrivals;
mod cancels;
mod floods;
mod tls;
mod wire;
