//! LeaseStages whose caller goes away: no lease without a holder stays behind.

use std::time::Duration;

use interlock::proto::{self, StageState};

use crate::harness::*;

fn poll(queue: &str, wait_ms: i64) -> proto::LeaseStagesRequest {
    proto::LeaseStagesRequest {
        worker_id: "gone".to_owned(),
        queues: texts(&[queue]),
        wait: millis(wait_ms),
        lease_duration: seconds(3_600),
        ..Default::default()
    }
}

#[tokio::test]
async fn lease_call_cancelled_while_waiting_gets_no_stage() {
    let server = Server::start().await;
    let waiting = tokio::spawn({
        let api = server.api.clone();
        async move { api.workers().lease_stages(poll("default", 60_000)).await }
    });
    server.api.polls_wait(1).await;
    waiting.abort();
    server.api.polls_wait(0).await;
    server.api.submit(new_job("film", Vec::new())).await;
    let lease = server.api.lease("default").await;
    assert_eq!((lease.attempt, lease.fencing_token), (1, 1), "it was not leased before");
}

#[tokio::test(flavor = "multi_thread")]
async fn lease_call_cancelled_while_served_leaves_no_lease() {
    let server = Server::start().await;
    let rounds = 60;
    for round in 0..rounds {
        // A connection of its own, which is torn down with the call.
        let api = Api::connect(server.address).await;
        // And a queue of its own, so that no caller gets what another left.
        let name = format!("job-{round}");
        let request = poll(&name, 60_000);
        let calling = tokio::spawn(async move { api.workers().lease_stages(request).await });
        server.api.polls_wait(1).await;
        let stage = proto::StageSpec { queue: name.clone(), ..new_stage("main") };
        // At different moments of being served, from before the lease is made until after it was answered.
        let leave = async {
            tokio::time::sleep(Duration::from_micros(round * 100)).await;
            calling.abort();
        };
        futures::future::join(server.api.submit(new_job(&name, vec![stage])), leave).await;
        server.api.polls_wait(0).await;
    }
    // Leases that were answered may have reached their caller, as far as anybody can know. No others may stay.
    let received = eventually("the end of all calls", async || {
        let rpcs = server.api.statistics().await.rpcs;
        let leases = rpcs.into_iter().find(|rpc| rpc.method.ends_with("/LeaseStages"))?;
        (leases.in_flight == 0).then_some(leases.calls)
    })
    .await;
    let answered = received.get("OK").copied().unwrap_or(0);
    let held = eventually("the stage is ready again", async || {
        let mut held = 0;
        for round in 0..rounds {
            let stage = server.api.stage(&format!("job-{round}"), "main").await;
            match stage.state() {
                StageState::Ready => assert_eq!(stage.attempt, 0, "the attempt is not counted"),
                _ => held += 1,
            }
        }
        (held <= answered).then_some(held)
    })
    .await;
    println!("{rounds} callers went away: {answered} were answered before, {held} leases stay, calls {received:?}");
    assert!(held < i64::try_from(rounds).expect("few"), "none went away while being served");
}
