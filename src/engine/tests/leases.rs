//! Leases that are renewed without their job.

use super::*;
use crate::domain::job::Job;
use crate::operation::overlay::Key;

impl Server {
    async fn reap(&self, leased: &Leased) -> Result<Reply, Error> {
        let reap =
            Reap { key: leased.job.key, stage_no: leased.stage_no, token_secret: token(leased).secret, jitter: 0.0 };
        self.engine.execute(reap, None).await
    }
}

#[tokio::test]
async fn lease_renewed_by_another_session_is_not_reaped_and_causes_no_conflict() {
    let database = database().await;
    let a = server(&database);
    a.submit("", &[("voice", &[])], None).await.expect("submitted");
    let leased = a.lease_for(Duration::from_secs(20), Some(Duration::from_millis(1))).await.remove(0);
    let other = session(&database).await;
    // In the cached job the lease has expired.
    other.batch_execute("UPDATE leases SET expires_at = now() + interval '1 hour'").await.expect("renewed");
    let reaped = a.reap(&leased).await.expect("decided on the row, not refused by the commit again and again");
    assert!(!reaped.applied && a.engine.shared().figures.conflicts() == 0);
    other.batch_execute("UPDATE leases SET expires_at = now() - interval '1 second'").await.expect("expired");
    assert!(a.reap(&leased).await.expect("decided").applied);
    assert!(matches!(a.engine.execute(renewal(&leased), None).await, Err(Error::Refused(Refusal::LeaseLost))));
}

#[tokio::test]
async fn heartbeats_neither_load_nor_cache_jobs() {
    let database = database().await;
    let a = server(&database);
    a.submit("", &[("voice", &[])], None).await.expect("submitted");
    let leased = a.lease_for(Duration::from_secs(20), Some(Duration::from_secs(1))).await.remove(0);
    let b = server(&database);
    for _ in 0..3 {
        session(&database).await.batch_execute("UPDATE leases SET expires_at = now()").await.expect("due");
        let reply = b.engine.execute(renewal(&leased), None).await.expect("held");
        assert!(reply.leases[0].as_ref().is_some_and(|lease| lease.lasts(b.engine.now())));
    }
    let cache = b.engine.shared().cache.figures();
    assert_eq!((cache.entries, cache.misses), (0, 0));
    // A cached job follows the renewal.
    a.engine.execute(renewal(&leased), None).await.expect("held");
    session(&database).await.batch_execute("UPDATE leases SET expires_at = now()").await.expect("due");
    let renewed = a.engine.execute(renewal(&leased), None).await.expect("held").leases.remove(0).expect("held");
    let Some(job) = a.engine.shared().cache.get::<Job>(&Key::Job(leased.job.key)) else { panic!("it is cached") };
    assert_eq!(job.stages[0].lease().map(|lease| lease.expires_at), Some(renewed.expires_at));
}
