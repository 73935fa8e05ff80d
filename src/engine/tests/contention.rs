//! Several writers of the same rows.

use super::*;
use crate::store::commit::CommitMode;

#[tokio::test]
async fn two_servers_lose_no_update_of_one_job() {
    let database = database().await;
    let servers = [server(&database), server(&database)];
    let stages: Vec<String> = (0..8).map(|i| format!("s{i}")).collect();
    let specs: Vec<(&str, &[&str])> = stages.iter().map(|name| (name.as_str(), &[][..])).collect();
    servers[0].submit("hot", &specs, None).await.expect("submitted");
    let key = JobKey::of(DEFAULT, "hot");
    let writers = (0..64).map(|i| {
        let server = &servers[i % 2];
        let hold = StageCredential::Name(stages[i % 8].as_str().into());
        async move {
            let mut applied = 0;
            for step in 0..20 {
                let progress = Some(f64::from(step * 64 + i32::try_from(i).expect("small")) / 2_000.0);
                let target = StageTarget { key, job_id: "hot".into(), credential: hold.clone() };
                let message = Some(Name::from(format!("{i}-{step}")));
                let update = UpdateProgress { target, progress, message, expected_version: None, request: None };
                applied += i64::from(server.engine.execute(update, None).await.expect("no conflict shows").applied);
            }
            applied
        }
    });
    let applied: i64 = futures::future::join_all(writers).await.into_iter().sum();
    let (job, _) = servers[1].engine.shared().store.job(key).await.expect("a read").expect("the job");
    assert_eq!(job.revision, 1 + applied);
    assert_eq!(applied, 64 * 20);
    assert_eq!(job.stages.iter().map(|stage| stage.version - 1).sum::<i64>(), applied);
}

#[tokio::test]
async fn group_with_a_stale_record_is_decided_again_before_any_of_it_is_written() {
    let database = database().await;
    let (a, b) = (server(&database), server(&database));
    let mode = || a.engine.shared().contention.commit_mode();
    a.add(0..20).await.expect("made");
    assert_eq!(mode(), CommitMode::AllOrNothing, "no other writer was noticed");
    for round in 1..=3 {
        b.add(std::iter::once(3)).await.expect("added");
        // A batch with a record that the other server has just written, and updates that may share its group.
        let (batch, others) = (a.add(0..10), (10..20).map(|i| a.add(std::iter::once(i))));
        let (batch, others) = futures::join!(batch, futures::future::join_all(others));
        let written: Vec<_> =
            others.into_iter().chain([batch]).flat_map(|reply| reply.expect("added").records).collect();
        for outcome in &written {
            let by_b = i64::from(outcome.record.key == record(3));
            assert_eq!(outcome.record.version, 1 + round * (1 + by_b), "{:?}", outcome.record.key);
        }
        assert_eq!(written.len(), 20);
        assert_eq!(mode(), CommitMode::PerComponent, "the other server was noticed");
    }
    let keys: Vec<RecordKey> = (0..20).map(record).collect();
    let stored = b.engine.shared().store.records(&keys).await.expect("a read");
    for (i, key) in keys.iter().enumerate() {
        let expected = if i == 3 { 7 } else { 4 };
        let found = &stored[key];
        let n = found.fields.get(&"n".into()).expect("a field").value.as_str().to_owned();
        assert_eq!((found.version, n), (expected, expected.to_string()), "{key:?}");
    }
}

#[tokio::test]
async fn operation_requeued_during_a_drain_is_still_committed() {
    let database = database().await;
    let server = server(&database);
    // Enough for the bulk lane.
    server.add(0..1_200).await.expect("made");
    let other = session(&database).await;
    other.batch_execute("BEGIN; SELECT FROM records WHERE record_id = 'r7' FOR UPDATE").await.expect("held");
    let release = async {
        server.requeued().await;
        other.batch_execute("COMMIT").await.expect("released");
    };
    let all = async { futures::join!(server.add(0..1_200), server.engine.drain(), release) };
    let (added, (), ()) = tokio::time::timeout(Duration::from_secs(20), all).await.expect("in time");
    assert!(added.expect("added").records.iter().all(|outcome| outcome.record.version == 2));
    assert!(matches!(server.add(0..1).await, Err(Error::Draining)));
}
