//! Holders of permits that are stopped past their time and then go on: nothing they write under their permit is accepted.
//!
//! A stopped holder is one that renews nothing. What it tries once others have its locks: a commit that is fenced by its permit, one
//! that also releases it, a release, and a renewal.

use futures::future::join_all;
use interlock::proto;

use super::scale;
use crate::harness::*;

/// Locks that are taken over, for each unit of scale; each of their old holders tries four writes.
const TAKEN_OVER: usize = 250;

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_a_stopped_holder_are_refused_after_its_permit_expired() {
    let a = Server::start().await;
    let b = a.beside().await;
    let (mut tries, mut accepted) = (0, 0);
    for round in 0..scale() {
        let names: Vec<String> = (0..TAKEN_OVER).map(|i| format!("doc-{round}-{i}")).collect();
        let short =
            |name: &String| proto::AcquirePermitRequest { ttl: seconds(1), ..acquire_request(vec![claim(name)]) };
        let stopped = join_all(names.iter().map(|name| a.api.ask(short(name)))).await;
        // They are heard of only after their permits went to others.
        let others = join_all(names.iter().map(|name| b.api.acquire(name))).await;
        for ((stopped, other), name) in stopped.into_iter().zip(&others).zip(&names) {
            let stopped = stopped.expect("a free lock");
            assert!(other.grants[0].fencing_token > stopped.grants[0].fencing_token);
            let write = |operation| proto::CommitRequest {
                permit_fence: Some(stopped.permit_token.clone()),
                operations: vec![proto::CommitOperation { operation: Some(operation) }],
                ..Default::default()
            };
            let change = proto::commit_operation::Operation::UpdateRecord(update(name, vec![increment("n", 1.0)]));
            let release = proto::commit_operation::Operation::ReleasePermit(release_of(&stopped));
            let api = super::any(&[a.api.clone(), b.api.clone()]).clone();
            accepted += usize::from(api.transactions().commit(write(change)).await.is_ok());
            accepted += usize::from(api.transactions().commit(write(release)).await.is_ok());
            accepted += usize::from(api.permits().release_permit(release_of(&stopped)).await.is_ok());
            accepted += usize::from(api.renew(&stopped).await);
            tries += 4;
        }
        for other in &others {
            assert!(a.api.release(other).await, "it was not taken from its holder");
        }
    }
    eprintln!("stopped holders: {accepted} of {tries} writes accepted");
    assert_eq!(accepted, 0);
    assert!(tries >= 1_000);
    assert_eq!(a.column("SELECT count(*)::text FROM records").await, ["0"]);
}
