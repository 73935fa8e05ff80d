//! The layer from outside: credentials presented, results, and the cost of a call.

use std::time::Instant;

use tonic_types::StatusExt;
use tower::{Layer, Service, service_fn};

use super::*;
use crate::admission::{Methods, Peer};
use crate::domain::access::{NamespacePattern, RateLimits, Role, Roles};
use crate::domain::credential::{ApiKey, KeyChanges, KeyId, Proof, Secret, SecretHash};
use crate::domain::time::Timestamp;

const SECRET: [u8; 32] = [9; 32];
const READ_METHOD: &str = "/interlock.v1.JobService/GetJob";
const WRITE_METHOD: &str = "/interlock.v1.JobService/SubmitJob";

fn text() -> String {
    KeyText { id: KeyId::of_random(1), secret: Secret::new(SECRET) }.expose()
}

fn key(number: u64, proof: Proof) -> Arc<ApiKey> {
    Arc::new(ApiKey {
        id: KeyId::of_random(number),
        version: 1,
        changed_version: 1,
        proof,
        label: "test".into(),
        roles: Roles::NONE.with(Role::Read),
        namespaces: [NamespacePattern::parse("*").expect("a pattern")].into(),
        rates: RateLimits::default(),
        create_time: Timestamp(0),
        expire_time: None,
        revoke_time: None,
        last_use_time: None,
    })
}

/// One API key, and one credential for certificates with the name `worker.test`.
fn known() -> Arc<KnownKeys> {
    let known = KnownKeys::new(Arc::new(|| Timestamp(1)));
    let hash = SecretHash::of(&Secret::new(SECRET));
    let keys = vec![key(1, Proof::Secret { hash, previous: None }), key(2, Proof::Certificate("worker.test".into()))];
    known.begin_round();
    known.end_round(Some(KeyChanges { version: 1, floor_version: 0, is_whole: true, keys }));
    Arc::new(known)
}

fn methods() -> Methods {
    Methods::from_descriptors(&[crate::proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET])
        .expect("our own descriptors")
}

fn request(path: &str, authorization: &[&str], certificate: Option<&[&str]>) -> Request<()> {
    let mut request = Request::new(());
    for value in authorization {
        request.headers_mut().append(header::AUTHORIZATION, value.parse().expect("a value"));
    }
    request.extensions_mut().insert(methods().find(path));
    let names = certificate.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    request.extensions_mut().insert(Peer { address: None, certificate: names });
    request
}

/// Returns the principal that the inner service saw, or code, reason and message of the refusal.
async fn call(known: Option<Arc<KnownKeys>>, request: Request<()>) -> Result<Option<String>, (Code, String, String)> {
    let inner = service_fn(|request: Request<()>| {
        assert!(!request.headers().contains_key(header::AUTHORIZATION), "the credential goes no further");
        let principal = request.extensions().get::<Authenticated>().map(|found| found.0.name.to_string());
        let mut response = http::Response::new(tonic::body::Body::empty());
        response.extensions_mut().insert(principal);
        Box::pin(std::future::ready(Ok::<_, Infallible>(response)))
    });
    let response = credentials(known).layer(inner).call(request).await.expect("infallible");
    match Status::from_header_map(response.headers()) {
        None => Ok(response.extensions().get::<Option<String>>().cloned().flatten()),
        Some(status) => {
            let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
            Err((status.code(), reason.unwrap_or_default(), status.message().to_owned()))
        }
    }
}

#[tokio::test]
async fn an_api_key_is_read_from_the_header_in_any_case_of_the_scheme() {
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let value = format!("{scheme} {}", text());
        let answer = call(Some(known()), request(READ_METHOD, &[&value], None)).await;
        assert_eq!(answer, Ok(Some(format!("key:{}", KeyId::of_random(1)))));
    }
}

#[tokio::test]
async fn an_invalid_credential_fails_with_what_it_must_be() {
    let good = format!("Bearer {}", text());
    let long = format!("{good}x");
    let spaced = format!("Bearer  {}", text());
    let bare = text();
    for values in [
        &["Basic dXNlcjpwYXNz"][..],
        &["Bearer"],
        &["Bearer "],
        &[""],
        &["Bearer il_abcdefgh_short"],
        &[long.as_str()],
        &[spaced.as_str()],
        &[bare.as_str()],
        // Two headers are ambiguous.
        &[good.as_str(), good.as_str()],
    ] {
        let (code, reason, message) =
            call(Some(known()), request(READ_METHOD, values, None)).await.expect_err("a refusal");
        assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "CREDENTIAL_INVALID"), "{values:?}");
        assert!(message.contains("`il_`, 8 characters"), "{message}");
        assert!(!message.contains("dXNlcjpwYXNz") && !message.contains("abcdefgh"), "{message}");
    }
    let (_, _, message) = call(Some(known()), request(READ_METHOD, &[], None)).await.expect_err("a refusal");
    assert!(message.contains("no credential: send an API key"), "{message}");
}

#[tokio::test]
async fn a_certificate_stands_for_a_credential_unless_a_key_is_shown() {
    let names: &[&str] = &["spiffe://other", "worker.test"];
    let answer = call(Some(known()), request(READ_METHOD, &[], Some(names))).await;
    assert_eq!(answer, Ok(Some("cert:worker.test".to_owned())));
    let key = format!("Bearer {}", text());
    let answer = call(Some(known()), request(READ_METHOD, &[&key], Some(names))).await;
    assert_eq!(answer, Ok(Some(format!("key:{}", KeyId::of_random(1)))));
    // A valid certificate does not make up for a wrong key.
    let wrong = call(Some(known()), request(READ_METHOD, &["Bearer x"], Some(names))).await;
    assert!(matches!(wrong, Err((Code::Unauthenticated, ..))));
}

#[tokio::test]
async fn a_role_that_is_missing_is_named_with_the_principal() {
    let key = format!("Bearer {}", text());
    let refused = call(Some(known()), request(WRITE_METHOD, &[&key], None)).await;
    let (code, reason, message) = refused.expect_err("a refusal");
    assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "ROLE_DENIED"));
    assert_eq!(message, format!("key:{} has the role read; this method needs submit", KeyId::of_random(1)));
}

#[tokio::test]
async fn what_is_open_or_not_served_needs_no_credential() {
    let known = known();
    let health = request("/grpc.health.v1.Health/Check", &["Bearer x"], None);
    assert_eq!(call(Some(known.clone()), health).await, Ok(None));
    let (code, ..) = call(Some(known), request("/no.such.Service/Call", &[], None)).await.expect_err("a refusal");
    assert_eq!(code, Code::Unimplemented);
    let ignored = format!("Bearer {}", text());
    assert_eq!(call(None, request(WRITE_METHOD, &[&ignored], None)).await, Ok(None));
}

#[tokio::test]
async fn before_anything_was_read_a_credential_is_not_called_wrong() {
    let key = format!("Bearer {}", text());
    let unread = Arc::new(KnownKeys::unread());
    let (code, reason, _) =
        call(Some(unread.clone()), request(READ_METHOD, &[&key], None)).await.expect_err("a refusal");
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    let counts = unread.failures().counts();
    assert_eq!((counts[FailureReason::Unavailable as usize], counts.iter().sum::<u64>()), (1, 1));
}

/// Prints the cost of the layer per call, with
/// `INTERLOCK_MEASURE=1 cargo test --release --lib credentials_cost -- --nocapture`.
#[tokio::test]
async fn credentials_cost() {
    if std::env::var_os("INTERLOCK_MEASURE").is_none() {
        return;
    }
    const CALLS: u32 = 200_000;
    let inner = service_fn(|_: Request<()>| {
        std::future::ready(Ok::<_, Infallible>(http::Response::new(tonic::body::Body::empty())))
    });
    let key = format!("Bearer {}", text());
    for (name, known, shown) in
        [("off", None, None), ("key", Some(known()), Some(key)), ("certificate", Some(known()), None)]
    {
        let mut service = credentials(known).layer(inner);
        let sample = request(READ_METHOD, &[], Some(&["worker.test"]));
        let mut spent = std::time::Duration::ZERO;
        for _ in 0..CALLS {
            let mut call = Request::new(());
            *call.extensions_mut() = sample.extensions().clone();
            if let Some(shown) = &shown {
                call.headers_mut().insert(header::AUTHORIZATION, shown.parse().expect("a value"));
            }
            let began = Instant::now();
            let answer = service.call(call).await;
            spent += began.elapsed();
            drop(answer);
        }
        println!("{name}: {} ns a call", spent.as_nanos() / u128::from(CALLS));
    }
}
