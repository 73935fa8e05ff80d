//! The page at `/`: the files that `clients/page` was built into, embedded by `build.rs`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use tonic::body::Body;

use crate::admission::Response;

/// What the page may do: load its own files and call its own server, nothing else. Text of users that became markup could still run nothing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Headers of each file, beside its type and tag. Names of the files stay the same from version to version, so a browser has to ask whether they changed.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
    (header::VARY, "accept, accept-encoding"),
];

/// A file of the page.
struct PageFile {
    path: &'static str,
    media_type: &'static str,
    /// The tag of its content, quoted.
    tag: &'static str,
    content: &'static [u8],
    /// The content in gzip. Empty: there is none.
    gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// The answer to a request for a file of the page. None: it asks for something else, or this binary was built without the page.
pub fn answer<B>(request: &Request<B>) -> Option<Response> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return None;
    }
    let (path, headers) = (request.uri().path(), request.headers());
    // Programs get text at the root.
    if path == "/" && !lists(headers, &header::ACCEPT, "text/html") {
        return None;
    }
    FILES.iter().find(|file| file.path == path).map(|file| respond(file, headers))
}

fn respond(file: &PageFile, headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    let added = response.headers_mut();
    for (name, value) in HEADERS {
        added.insert(name, HeaderValue::from_static(value));
    }
    added.insert(header::ETAG, HeaderValue::from_static(file.tag));
    if lists(headers, &header::IF_NONE_MATCH, file.tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    added.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    let mut content = file.content;
    if !file.gzip.is_empty() && lists(headers, &header::ACCEPT_ENCODING, "gzip") {
        added.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        content = file.gzip;
    }
    *response.body_mut() = Body::new(Full::new(Bytes::from_static(content)));
    response
}

/// Whether a header lists a value. Weights count only where they are 0.
fn lists(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|entry| entry.trim_start_matches("W/") == value);
        let is_refused = |weight: &str| weight.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        is_named && !parts.any(is_refused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: PageFile =
        PageFile { path: "/app.js", media_type: "text/javascript", tag: "\"a\"", content: b"long", gzip: b"gz" };

    fn headers(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn files_are_compressed_for_those_who_can_read_it_and_sent_once() {
        let coding = |value| {
            let response = respond(&FILE, &headers(header::ACCEPT_ENCODING, value));
            response.headers().get(header::CONTENT_ENCODING).cloned()
        };
        assert_eq!(coding("br, gzip;q=0.5"), Some(HeaderValue::from_static("gzip")));
        assert_eq!((coding("gzip;q=0"), coding("gzip; q=0.0"), coding("br")), (None, None, None));
        let again = |value| respond(&FILE, &headers(header::IF_NONE_MATCH, value)).status();
        assert_eq!((again("\"b\", W/\"a\""), again("\"b\"")), (StatusCode::NOT_MODIFIED, StatusCode::OK));
    }

    #[test]
    fn root_is_the_page_for_browsers_only() {
        let ask = |accept| {
            let mut request = Request::get("/").body(()).expect("a request");
            *request.headers_mut() = headers(header::ACCEPT, accept);
            answer(&request).is_some()
        };
        assert!(!ask("*/*"), "curl");
        assert_eq!(ask("text/html,application/xhtml+xml,*/*;q=0.8"), !FILES.is_empty());
        assert!(answer(&Request::post("/app.js").body(()).expect("a request")).is_none());
    }
}
