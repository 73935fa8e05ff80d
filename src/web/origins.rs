//! Which web pages may call: cross-origin requests of browsers (CORS), and requests that a page can send without asking.
//!
//! Invariants:
//! - A request with an `Origin` that is neither allowed nor the server's own is refused before it is read.
//! - The server's own origin is its IP address or `localhost`, or any name over TLS. Another name over plaintext can be made
//!   to resolve to this server by whoever owns the name (DNS rebinding).
//! - Requests that a browser marks as cross-site without an `Origin`, such as those of images, are refused.
//! - Where no credential is needed, a GET over plaintext must name the server by its address, `localhost` or the host of an
//!   allowed origin: a page whose name was made to resolve to this server sends no `Origin` with it.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use crate::config::Origin;

/// Headers that pages may send.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, connect-protocol-version, connect-timeout-ms, content-type, grpc-timeout, interlock-namespace, \
     last-event-id, traceparent, tracestate, x-grpc-web, x-user-agent",
);
/// Headers of responses that pages may read.
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "grpc-message, grpc-retry-pushback-ms, grpc-status, grpc-status-details-bin, ratelimit-remaining, retry-after, \
     trailer-grpc-retry-pushback-ms, trailer-ratelimit-remaining",
);
/// Seconds for which a browser remembers a preflight. Chrome takes no more.
const REMEMBERED: HeaderValue = HeaderValue::from_static("7200");

const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// What the conversion has to know of the settings.
#[derive(Debug, Clone)]
pub struct WebOptions {
    /// Origins of pages that may call.
    pub allow_origin: Vec<Origin>,
    /// True if the port speaks TLS.
    pub has_tls: bool,
    /// True if calls need a credential.
    pub needs_credentials: bool,
}

/// The origins of pages that may call.
#[derive(Debug)]
pub(super) struct Origins(WebOptions);

impl Origins {
    pub(super) fn new(options: &WebOptions) -> Origins {
        Origins(options.clone())
    }

    /// The allowed origin that a request comes from. None: it comes from no page, or from one of this server. Error: why
    /// it is refused.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<Option<HeaderValue>, String> {
        let headers = request.headers();
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
        let Some(origin) = headers.get(ORIGIN) else { return self.admit_without_origin(request, host).map(|()| None) };
        let text = origin.to_str().unwrap_or_default();
        if self.0.allow_origin.iter().any(|allowed| allowed.as_str() == text) {
            return Ok(Some(origin.clone()));
        }
        let scheme = if self.0.has_tls { "https://" } else { "http://" };
        let is_own =
            text.strip_prefix(scheme).is_some_and(|own| Some(own) == host && (self.0.has_tls || is_address(own)));
        if is_own {
            return Ok(None);
        }
        Err(format!("pages of the origin {text:?} may not call: start the server with --allow-origin to allow them"))
    }

    fn admit_without_origin<B>(&self, request: &Request<B>, host: Option<&str>) -> Result<(), String> {
        let says = |name: &HeaderName, value: &str| request.headers().get(name).is_some_and(|found| found == value);
        let is_foreign = says(&FETCH_SITE, "cross-site") || says(&FETCH_SITE, "same-site");
        if is_foreign && !says(&FETCH_MODE, "navigate") {
            return Err("pages of other origins may not call without an Origin".to_owned());
        }
        let is_guarded = request.method() == Method::GET && !self.0.has_tls && !self.0.needs_credentials;
        let is_known = |host: &str| is_address(host) || self.0.allow_origin.iter().any(|it| it.authority() == host);
        match host.filter(|host| is_guarded && !is_known(host)) {
            Some(host) => Err(format!(
                "GET needs an address, localhost or the host of an allowed origin, not {host:?}, since the server needs no \
                 credentials: POST, or start the server with --allow-origin http://{host}"
            )),
            None => Ok(()),
        }
    }

    /// Adds what a browser has to know of a response. `page`: the allowed origin of the request.
    pub(super) fn describe(&self, page: Option<HeaderValue>, headers: &mut HeaderMap) {
        if !self.0.allow_origin.is_empty() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = page {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
        }
    }
}

/// True if an authority is an IP address or `localhost`, with or without a port.
fn is_address(authority: &str) -> bool {
    authority.parse::<http::uri::Authority>().is_ok_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok()
    })
}

/// True if a browser asks whether a page may send a request.
pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Adds the answer to a preflight of an allowed origin.
pub(super) fn permit(asked: &HeaderMap, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    if asked.get(PRIVATE_NETWORK).is_some_and(|value| value == "true") {
        headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(has_tls: bool, needs_credentials: bool) -> Origins {
        let allow_origin = vec!["https://board.example".parse().expect("an origin")];
        Origins(WebOptions { allow_origin, has_tls, needs_credentials })
    }

    fn admit(
        origins: &Origins,
        method: Method,
        headers: &[(&'static str, &str)],
    ) -> Result<Option<HeaderValue>, String> {
        let mut request = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        origins.admit(&request.body(()).expect("a request"))
    }

    #[test]
    fn only_allowed_origins_and_our_own_address_pass() {
        let (plain, tls) = (origins(false, false), origins(true, false));
        let asks = |origins: &Origins, origin: &str, host: &str| {
            admit(origins, Method::POST, &[("origin", origin), ("host", host)])
        };
        assert_eq!(admit(&plain, Method::POST, &[("host", "127.0.0.1:50051")]), Ok(None));
        let allowed = HeaderValue::from_static("https://board.example");
        assert_eq!(asks(&plain, "https://board.example", "127.0.0.1:50051"), Ok(Some(allowed)));
        for own in ["127.0.0.1:50051", "localhost:50051", "[::1]:50051"] {
            assert_eq!(asks(&plain, &format!("http://{own}"), own), Ok(None), "{own}");
        }
        assert_eq!(asks(&tls, "https://jobs.example", "jobs.example"), Ok(None));
        for (origin, host) in [
            ("http://evil.example:50051", "evil.example:50051"),
            ("http://board.example", "127.0.0.1:50051"),
            ("https://board.example.evil.example", "127.0.0.1:50051"),
            ("http://localhost:3000", "localhost:50051"),
            ("https://127.0.0.1:50051", "127.0.0.1:50051"),
            ("null", "127.0.0.1:50051"),
            ("", "127.0.0.1:50051"),
        ] {
            let refused = asks(&plain, origin, host).expect_err(origin);
            assert!(refused.contains("--allow-origin"), "{refused}");
        }
    }

    #[test]
    fn requests_of_other_sites_without_an_origin_are_refused_unless_somebody_follows_a_link() {
        let origins = origins(false, true);
        assert!(admit(&origins, Method::GET, &[("sec-fetch-site", "cross-site")]).is_err());
        assert_eq!(admit(&origins, Method::GET, &[("sec-fetch-site", "none")]), Ok(None));
        let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(admit(&origins, Method::GET, &link), Ok(None));
    }

    #[test]
    fn a_name_of_somebody_else_reads_nothing_where_no_credential_is_needed() {
        let evil = [("host", "evil.example:50051")];
        assert!(admit(&origins(false, false), Method::GET, &evil).is_err());
        assert_eq!(admit(&origins(false, false), Method::POST, &evil), Ok(None), "a page would send an Origin");
        assert_eq!(admit(&origins(false, true), Method::GET, &evil), Ok(None));
        assert_eq!(admit(&origins(true, false), Method::GET, &evil), Ok(None));
        for host in ["127.0.0.1", "localhost:1", "[::1]:1", "board.example"] {
            assert_eq!(admit(&origins(false, false), Method::GET, &[("host", host)]), Ok(None), "{host}");
        }
    }
}
