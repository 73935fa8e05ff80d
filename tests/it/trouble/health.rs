//! Health follows what the server is there for: writes that are done.

use std::time::Duration;

use interlock::dev::Durability;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::load::health;
use crate::harness::*;

async fn becomes(api: &Api, status: ServingStatus) {
    eventually("health", async || (health(api).await == status).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_writes_is_not_serving() {
    let server = Server::start().await;
    becomes(&server.api, ServingStatus::Serving).await;
    // Everything can be read, and nothing written: each group leaves a row there.
    let foreign = sql(server.database.url()).await;
    foreign.batch_execute("BEGIN; LOCK TABLE write_groups IN SHARE MODE").await.expect("a lock");
    becomes(&server.api, ServingStatus::NotServing).await;
    let submit = server.api.jobs().submit_job(new_job("meanwhile", vec![new_stage("s")])).await;
    refused(submit, Code::Unavailable, "STORE_UNAVAILABLE");
    foreign.batch_execute("ROLLBACK").await.expect("no lock");
    becomes(&server.api, ServingStatus::Serving).await;
    server.api.submit(new_job("after", vec![new_stage("s")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_at_the_connection_limit_of_postgres_keeps_serving() {
    /// Longer than a write stands for those to come, so that an idle server has to find out.
    const LOOKS: usize = 6;
    let (database, cluster) = Database::on_own_cluster(Durability::None).await;
    let admin = sql(database.url()).await;
    let role = "CREATE ROLE limited LOGIN; GRANT ALL ON SCHEMA public TO limited; \
        GRANT ALL ON ALL TABLES IN SCHEMA public TO limited; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO limited";
    admin.batch_execute(role).await.expect("a role");
    let url = database.url().replace("interlock@", "limited@");
    let server = Server::through(database, &url, |_| {}).await;
    server.api.submit(new_job("before", vec![new_stage("s")])).await;
    becomes(&server.api, ServingStatus::Serving).await;
    // Others have used up what there is, and health's own connection broke.
    let limit = "ALTER ROLE limited CONNECTION LIMIT 1";
    admin.batch_execute(limit).await.expect("a limit");
    let health_own = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '-- health:%'";
    assert_eq!(admin.query(health_own, &[]).await.expect("a superuser").len(), 1);
    let refusals = || {
        let said = std::fs::read_to_string(cluster.postgres().log()).expect("a log");
        said.matches("too many connections for role").count()
    };
    eventually("refused looks", async || {
        assert_eq!(health(&server.api).await, ServingStatus::Serving);
        (refusals() >= LOOKS).then_some(())
    })
    .await;
    let began = std::time::Instant::now();
    server.api.submit(new_job("after", vec![new_stage("s")])).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
