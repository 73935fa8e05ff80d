//! The other end of a call: the address of the connection, the names proved in its TLS handshake, and the principal of
//! the call's credential.

use std::net::IpAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::access::Principal;

/// The other end of a connection. In the extensions of its requests.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Address of the client. None: it could not be read, or the connection has none.
    pub address: Option<IpAddr>,
    /// Names in the client certificate, which a configured authority has signed: URIs, DNS names and the common name,
    /// in this order. None: no certificate was presented.
    pub certificate: Option<Arc<[String]>>,
}

/// Principal of a call and the end of its credential, in the extensions of its request. Absent: the server or the
/// method requires no credential.
#[derive(Clone, Debug)]
pub struct Authenticated(pub Arc<Principal>, pub CancellationToken);

/// Mask of the first 64 bits of an IPv6 address. A provider assigns the other 64 bits to one customer.
const IPV6_NETWORK: u128 = u128::MAX << 64;

/// Network of an address, for limits by address: an IPv4 address, mapped to IPv6, or the first half of an IPv6 address,
/// since one customer has 2⁶⁴ addresses there.
pub fn network_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & IPV6_NETWORK,
    }
}

/// Other end of the connection of a request.
pub(super) fn of<B>(request: &http::Request<B>) -> Peer {
    request.extensions().get::<Peer>().cloned().unwrap_or_default()
}

/// Address of the client of a request. None: it is unknown.
pub(super) fn address<B>(request: &http::Request<B>) -> Option<IpAddr> {
    request.extensions().get::<Peer>().and_then(|peer| peer.address)
}

/// Principal of a request. None: its credential was not checked.
pub(super) fn principal<B>(request: &http::Request<B>) -> Option<&Arc<Principal>> {
    request.extensions().get::<Authenticated>().map(|Authenticated(principal, _)| principal)
}
