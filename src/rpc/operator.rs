//! Calls of an operator who has the database itself: they take the way of all others, without a listener.

use std::convert::Infallible;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::admission::Authenticated;
use crate::domain::access::{NamespacePattern, Principal, RateLimits, Role, Roles};

/// All rpcs, as a service inside the process.
pub type OperatorCalls = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// The rpcs of routes, called as `operator@database`. For who can open the database: its password is the credential.
pub fn operator_calls(routes: Routes) -> OperatorCalls {
    let principal = Arc::new(Principal {
        name: "operator@database".into(),
        roles: Roles::NONE.with(Role::Admin),
        namespaces: [NamespacePattern::Prefix("".into())].into(),
        rates: RateLimits::default(),
    });
    let authenticated = move |mut request: http::Request<Body>| {
        request.extensions_mut().insert(Authenticated(principal.clone(), CancellationToken::new()));
        request
    };
    BoxCloneSyncService::new(routes.map_request(authenticated))
}
