//! Who is at the other end of a call: the address of the connection, what it proved in its TLS handshake, and the principal that the
//! credential of the call names.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::access::Principal;

/// The other end of a connection. In the extensions of its requests.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address. None: it could not be read, or the connection has none.
    pub address: Option<IpAddr>,
    /// The names in its client certificate, which the configured authorities have signed: URIs, DNS names and the common name, in this
    /// order. None: it showed no certificate.
    pub certificate: Option<Arc<[String]>>,
}

/// The principal of a call, and the end of its credential, in the extensions of its request. Absent: no credential is required, by the server or
/// by the method.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Arc<Principal>, pub CancellationToken);

/// Bits of an IPv6 address that a provider gives to one customer.
const IPV6_NETWORK: u128 = u128::MAX << 64;

/// What is bounded by address counts these as one: an IPv4 address, mapped to IPv6, or the first half of an IPv6 address, since whoever has one
/// has 2⁶⁴ of them.
pub fn network_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & IPV6_NETWORK,
    }
}

/// The other end of the connection that a request came on.
pub(super) fn of<B>(request: &http::Request<B>) -> Peer {
    request.extensions().get::<Peer>().cloned().unwrap_or_default()
}

/// The address of the connection that a request came on.
pub(super) fn address<B>(request: &http::Request<B>) -> Option<IpAddr> {
    request.extensions().get::<Peer>().and_then(|peer| peer.address)
}

/// The principal of a request, if its credential was checked.
pub(super) fn principal<B>(request: &http::Request<B>) -> Option<&Arc<Principal>> {
    request.extensions().get::<Authenticated>().map(|Authenticated(principal, _)| principal)
}
