//! Servers and Postgres killed under load: what was answered is there, once, and no fencing token is granted twice.
//!
//! Every write carries a `request_id` and is sent again until it has a reply. So at the end it is known of each whether it
//! was done, and the database has to agree: no job but those acknowledged, as many versions as changes were acknowledged,
//! and of each stage the end that was acknowledged.

mod load;

use std::time::{Duration, Instant};

use interlock::dev::{Durability, TestCluster};
use interlock::proto;

use super::fleet::Fleet;
use super::scale;
use crate::harness::*;
use load::Load;

const SERVERS: usize = 2;
/// Kills of servers, for each unit of scale.
const SERVER_KILLS: usize = 4;
/// Kills of Postgres, for each unit of scale.
const POSTGRES_KILLS: usize = 2;
/// Writes that must be acknowledged between two kills.
const BETWEEN: usize = 60;
/// Within this a server must be at work again by itself when its database is back.
const RECOVERY: Duration = Duration::from_secs(5);

/// A write that needs server and database.
async fn works(api: &Api) -> bool {
    let request = proto::UpdateJobRequest {
        job_id: "probe".to_owned(),
        labels: labels(&[("by", &unique())]),
        ..Default::default()
    };
    let answer = tokio::time::timeout(Duration::from_secs(1), api.jobs().update_job(request)).await;
    answer.is_ok_and(|answer| answer.is_ok())
}

fn format_times(times: &[Duration]) -> String {
    let mut times: Vec<u128> = times.iter().map(Duration::as_millis).collect();
    times.sort_unstable();
    format!("median {} ms, longest {} ms", times[(times.len() - 1) / 2], times[times.len() - 1])
}

/// Kills Postgres in the middle of whatever it does and starts it again. Returns how long it took to recover, and each
/// server from then to its first good answer to a write.
async fn kill_postgres(cluster: &TestCluster, fleet: &Fleet) -> (Duration, Vec<Duration>) {
    let started = Instant::now();
    cluster.postgres().kill().await;
    cluster.postgres().start_again().await.expect("it recovers");
    let recovered = started.elapsed();
    let ready = Instant::now();
    let apis = fleet.apis();
    let back = apis.iter().map(|api| async {
        eventually("a write after the restart of Postgres", async || works(api).await.then_some(())).await;
        ready.elapsed()
    });
    (recovered, futures::future::join_all(back).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_done_twice() {
    let cluster = TestCluster::own(Durability::Full).await.expect("a Postgres");
    let fleet = Fleet::start(Database::fresh_in(&cluster).await, SERVERS).await;
    let direct = proto::StageSpec { direct: true, ..new_stage("main") };
    fleet.api().submit(new_job("probe", vec![direct])).await;
    let load = Load::start(fleet).await;
    let kills = (SERVER_KILLS + POSTGRES_KILLS) * scale();
    let (mut servers, mut postgres, mut reconnected) = (Vec::new(), Vec::new(), Vec::new());
    for kill in 0..kills {
        let before = load.acknowledged();
        eventually("some writes", async || (load.acknowledged() >= before + BETWEEN).then_some(())).await;
        // Every third is one of Postgres.
        if kill % 3 == 2 {
            let (recovered, back) = kill_postgres(&cluster, load.fleet()).await;
            postgres.push(recovered);
            reconnected.extend(back);
        } else {
            servers.push(load.fleet().kill(kill % SERVERS, works).await);
        }
    }
    let before = load.acknowledged();
    eventually("some last writes", async || (load.acknowledged() >= before + BETWEEN).then_some(())).await;
    let report = load.finish().await;
    eprintln!(
        "kills: {} of servers (at work again after {}), {} of Postgres (recovered after {}; then servers at work after {}); {report}",
        servers.len(),
        format_times(&servers),
        postgres.len(),
        format_times(&postgres),
        format_times(&reconnected),
    );
    assert_eq!((servers.len(), postgres.len()), (SERVER_KILLS * scale(), POSTGRES_KILLS * scale()));
    assert!(reconnected.iter().all(|time| *time < RECOVERY), "{reconnected:?}");
    report.check(kills * BETWEEN);
}
