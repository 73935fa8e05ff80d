//! Lists by name: what their pages hold where stages, queues, leases and records are more than a page may read.

use super::Store;
use super::bounded::BoundedCount;
use super::connection::Target;
use super::job::queues::{QueueBounds, QueueState};
use super::job::workers::{WorkerBounds, WorkerState};
use super::permit::waiters::{PermitRequester, WaiterCursor, WaiterState};
use super::record::collections::CollectionBounds;
use super::tests::database;
use crate::config::Config;
use crate::domain::id::NamespaceId;
use crate::domain::permit::ResourceKey;
use crate::domain::time::Timestamp;

const OWN: NamespaceId = NamespaceId(1);
const LARGE: QueueBounds =
    QueueBounds { of_queue: 100, of_page: 1_000, names: 100, leases: 100, timers: 100, delayed: 100 };

/// A store over a database of its own with these rows.
async fn store(rows: &str) -> (Store, crate::dev::TestDatabase) {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let client = target.connect("").await.expect("Postgres listens");
    client.batch_execute(rows).await.expect("the rows");
    (Store::new(target, (&Config::default()).into()).expect("a pool"), database)
}

/// Ready stages of queues of two namespaces: `many` has 12, of which the oldest has the lowest priority; `few` has 2 and 3 that wait for a
/// permit; `wait` has one that waits. Running are 3 of `few` and one of `run`; one more is run by name.
const QUEUES: &str = r#"
    INSERT INTO namespaces (name) VALUES ('other');
    INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, alone)
    SELECT 1, gen_random_uuid(), 0, 'many', i % 3, to_timestamp(1000 + i - 500 * (i % 3 = 0)::int4), i = 5 FROM generate_series(1, 12) i;
    INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, alone, blocked_on)
    SELECT 1, gen_random_uuid(), 0, 'few', 0, to_timestamp(2000 + i), false, CASE WHEN i > 2 THEN gen_random_uuid() END
    FROM generate_series(1, 5) i;
    INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, alone, blocked_on)
    VALUES (1, gen_random_uuid(), 0, 'wait', 0, now(), false, gen_random_uuid());
    INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, alone)
    SELECT 2, gen_random_uuid(), 0, name, 0, now(), false FROM unnest(ARRAY['a', 'b', 'few', 'other', 'x']) name;
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us, specs, stages)
    SELECT namespace_id, ('00000000-0000-8000-8000-00000000000' || i)::uuid, 'j' || i, 'test', 1, 1, 2, 0, 0, now(), 0,
        '[{"spec":{"name":"a","queue":"few"}},{"spec":{"name":"b","queue":"run"}},{"spec":{"name":"c","queue":"named","direct":true}}]', '[]'
    FROM generate_series(1, 2) i, (VALUES (1), (2)) n(namespace_id);
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us)
    VALUES (1, '00000000-0000-8000-8000-000000000003', 'large', 'test', 1, 1, 2, 0, 0, now(), 0);
    INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on)
    VALUES (1, '00000000-0000-8000-8000-000000000003', 7, '{"name":"a","queue":"few"}', '[]');
    INSERT INTO leases (namespace_id, job_uid, stage_no, token_secret, worker_id, duration_us, expires_at, check_at, fencing_token)
    SELECT namespace_id, ('00000000-0000-8000-8000-00000000000' || i)::uuid, no, gen_random_uuid(), 'w', 1, now(), now(), 1
    FROM (VALUES (1, 1, 0), (1, 1, 1), (1, 1, 2), (1, 2, 0), (1, 3, 7), (2, 1, 1)) l(namespace_id, i, no);"#;

/// Stages that wait for a time. Of the job that starts later, `a` and not `b`, which waits for it; of the job with two backoffs, both, and not what
/// is ready or runs; of the large jobs a backoff, and two stages that start later. Nothing of the paused job, and of the one that has ended.
/// The first timer of all is the timeout of a job.
const DELAYED: &str = r#"
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us, opens_at, end_time,
        wakes_at, specs, stages)
    SELECT namespace_id, ('00000000-0000-8000-8000-00000000000' || i)::uuid, 'j' || i, 'test', 1, 1, state, 0, 0, now(), 0,
        now() + i * opens, CASE WHEN state = 5 THEN now() END, now() + i * interval '1 minute', specs, stages
    FROM (VALUES (1, 1, NULL::interval, 2, '[{"spec":{"name":"a","queue":"none"}}]', '[{"state":3}]'),
        (1, 2, '1 minute', 1, '[{"spec":{"name":"a","queue":"few"}},{"spec":{"name":"b","queue":"none"},"depends_on":[0]}]', '[{"state":1},{"state":1}]'),
        (1, 3, NULL, 2, '[{"spec":{"name":"a","queue":"few"}},{"spec":{"name":"b","queue":"some"}},{"spec":{"name":"c","queue":"none"}},
            {"spec":{"name":"d","queue":"none","direct":true}}]', '[{"state":4},{"state":4},{"state":2},{"state":4}]'),
        (1, 4, NULL, 3, '[{"spec":{"name":"a","queue":"none"}}]', '[{"state":4}]'),
        (1, 5, NULL, 5, '[{"spec":{"name":"a","queue":"none"}}]', '[{"state":4}]'),
        (1, 6, '1 minute', 1, NULL, NULL), (1, 7, NULL, 2, NULL, NULL), (1, 8, NULL, 3, NULL, NULL),
        (2, 9, NULL, 2, '[{"spec":{"name":"a","queue":"other"}}]', '[{"state":4}]'))
        v(namespace_id, i, opens, state, specs, stages);
    INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on)
    SELECT 1, ('00000000-0000-8000-8000-00000000000' || i)::uuid, no, '{"name":"a","queue":"large"}', CASE WHEN no > 1 THEN '[0]' ELSE '[]' END::json
    FROM generate_series(6, 8) i, generate_series(0, 4) no;
    INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, progress, wakes_at)
    SELECT 1, ('00000000-0000-8000-8000-00000000000' || i)::uuid, no, 1, 1, CASE WHEN no = 1 THEN 4 ELSE 3 END, 1, 1, 0,
        now() + no * interval '1 minute' FROM generate_series(7, 8) i, generate_series(0, 1) no;"#;

/// A queue in one line: name, ready, waiting, leased; `+` after what is capped.
fn line(queue: &QueueState) -> String {
    let count =
        |count: super::bounded::BoundedCount| format!("{}{}", count.count, if count.is_capped { "+" } else { "" });
    format!("{} {} {} {}", queue.name, count(queue.ready), count(queue.waiting), count(queue.leased))
}

/// The pages of the list: lines of their queues.
async fn pages(store: &Store, bounds: QueueBounds, limit: u32) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let page = store.queues_within(bounds, OWN, &after, limit).await.expect("a page");
        pages.push(page.queues.iter().map(line).collect());
        assert!(pages.len() < 20, "{pages:?}");
        match page.next {
            Some(next) => after = next.name,
            None => return pages,
        }
    }
}

#[tokio::test]
async fn a_page_of_queues_has_exact_counts_below_the_bounds() {
    let (store, _database) = store(QUEUES).await;
    let all = ["few 2 3 3", "many 12 0 0", "run 0 0 1", "wait 0 1 0"];
    assert_eq!(pages(&store, LARGE, 50).await, [all.to_vec()]);
    assert_eq!(pages(&store, LARGE, 4).await, [all.to_vec()]);
    assert_eq!(pages(&store, LARGE, 3).await, [all[..3].to_vec(), all[3..].to_vec()]);
    assert_eq!(pages(&store, LARGE, 1).await.concat(), all);
    let page = store.list_queues(OWN, "", 50).await.expect("a page");
    assert_eq!(page.queues.iter().map(line).collect::<Vec<_>>(), all);
}

#[tokio::test]
async fn counts_beyond_a_bound_are_marked_and_the_oldest_stage_is_found_in_any_priority() {
    let (store, _database) = store(QUEUES).await;
    let at_bound = QueueBounds { of_queue: 12, leases: 5, ..LARGE };
    assert_eq!(pages(&store, at_bound, 50).await, [["few 2 3 3", "many 12 0 0", "run 0 0 1", "wait 0 1 0"]]);
    let below = QueueBounds { of_queue: 2, ..LARGE };
    assert_eq!(pages(&store, below, 50).await, [["few 2 2+ 3", "many 2+ 0 0", "run 0 0 1", "wait 0 1 0"]]);
    // The second job of small ids is not looked at, nor is the large one.
    let leases = QueueBounds { leases: 2, ..LARGE };
    assert_eq!(pages(&store, leases, 50).await, [["few 2 3 1+", "many 12 0 0+", "run 0 0 1+", "wait 0 1 0+"]]);
    let few = store.queues_within(QueueBounds { of_queue: 1, ..LARGE }, OWN, "few", 1).await.expect("a page");
    let oldest = few.queues.first().and_then(|queue| queue.oldest_ready);
    assert_eq!(oldest, Some(Timestamp(503_000_000)), "priority 0, behind the others");
}

#[tokio::test]
async fn a_page_of_queues_ends_where_it_has_read_enough_and_the_next_goes_on() {
    let (store, _database) = store(QUEUES).await;
    let all = ["few 2 3 3", "many 12 0 0", "run 0 0 1", "wait 0 1 0"];
    let counted = QueueBounds { of_page: 6, ..LARGE };
    assert_eq!(pages(&store, counted, 50).await, [all[..2].to_vec(), all[2..].to_vec()]);
    for names in 1..8 {
        let found = pages(&store, QueueBounds { names, ..LARGE }, 50).await;
        assert_eq!(found.concat(), all, "{names} names a page: {found:?}");
        assert_eq!(found.len() > 1, names < 7, "{names} names a page: {found:?}");
    }
}

#[tokio::test]
async fn stages_that_wait_for_a_time_are_counted_by_queue_and_cut_at_a_bound() {
    let (store, _database) = store(DELAYED).await;
    let list = async |bounds| {
        let page = store.queues_within(bounds, OWN, "", 50).await.expect("a page");
        let line = |queue: &QueueState| {
            format!("{} {}{}", queue.name, queue.delayed.count, if queue.delayed.is_capped { "+" } else { "" })
        };
        page.queues.iter().map(line).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(list(LARGE).await, "few 2, large 3, some 1");
    // 7 jobs and 4 stages have timers; 12 stages of the jobs are looked at.
    assert_eq!(list(QueueBounds { timers: 7, delayed: 12, ..LARGE }).await, "few 2, large 3, some 1");
    assert_eq!(list(QueueBounds { timers: 6, ..LARGE }).await, "few 2+, large 3+, some 1+");
    assert_eq!(list(QueueBounds { timers: 1, ..LARGE }).await, "few 1+");
    assert_eq!(list(QueueBounds { delayed: 11, ..LARGE }).await, "few 2+, large 3+, some 1+");
    assert_eq!(list(QueueBounds { delayed: 1, ..LARGE }).await, "few 1+, large 1+");
}

/// Leases of three workers. One of them has leases of queues of small jobs, of a large one, and of a stage that is run by name. The stage
/// without a lease is of no worker.
const WORKERS: &str = r#"
    INSERT INTO namespaces (name) VALUES ('other');
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us, specs, stages)
    SELECT namespace_id, ('00000000-0000-8000-8000-00000000000' || i)::uuid, 'j' || i, 'test', 1, 1, 2, 0, 0, now(), 0,
        '[{"spec":{"name":"a","queue":"few"}},{"spec":{"name":"b","queue":"run"}},{"spec":{"name":"c","queue":"named","direct":true}}]',
        '[{"state":3,"start_time":3000000},{"state":3,"start_time":1000000,"progress":0.5},{"state":3,"start_time":2000000}]'
    FROM generate_series(1, 2) i, (VALUES (1), (2)) n(namespace_id);
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us)
    VALUES (1, '00000000-0000-8000-8000-000000000003', 'large', 'test', 1, 1, 2, 0, 0, now(), 0);
    INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on)
    VALUES (1, '00000000-0000-8000-8000-000000000003', 7, '{"name":"x","queue":"bulk"}', '[]');
    INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, progress, start_time)
    VALUES (1, '00000000-0000-8000-8000-000000000003', 7, 1, 1, 3, 1, 1, 0.25, to_timestamp(4));
    INSERT INTO leases (namespace_id, job_uid, stage_no, token_secret, worker_id, duration_us, expires_at, check_at, fencing_token)
    SELECT namespace_id, ('00000000-0000-8000-8000-00000000000' || i)::uuid, no, gen_random_uuid(), worker, 30000000,
        to_timestamp(100 + place), now(), 1
    FROM (VALUES (1, 1, 0, 'b', 1), (1, 1, 1, 'b', 2), (1, 1, 2, 'b', 3), (1, 2, 0, 'B 2', 4), (1, 2, 1, 'é', 5), (1, 3, 7, 'b', 6),
        (2, 1, 1, 'other', 7)) l(namespace_id, i, no, worker, place);"#;

const ALL_WORKERS: WorkerBounds = WorkerBounds { leases: 100, queues: 10, stages: 10 };

/// A worker in one line: its leases, queues and stages; when its oldest lease began, the last was renewed, the next ends.
fn worker_line(worker: &WorkerState) -> String {
    let more = |is_more: bool| if is_more { "+" } else { "" };
    let stages = worker.stages.iter().map(|stage| {
        assert!(stage.start.is_some() && stage.end >= worker.next_end, "{worker:?}");
        format!("{}/{}/{}", stage.job_id, stage.name, stage.queue.as_deref().unwrap_or("-"))
    });
    let times = [worker.oldest_start.unwrap_or(Timestamp(0)), worker.last_renewal, worker.next_end];
    format!(
        "{} {}{} [{}{}] [{}] {}",
        worker.worker_id,
        worker.leases.count,
        more(worker.leases.is_capped),
        worker.queues.join(" "),
        more(worker.has_more_queues),
        stages.collect::<Vec<_>>().join(" "),
        times.map(|time| (time.0 / 1_000_000).to_string()).join(" ")
    )
}

async fn worker_pages(store: &Store, bounds: WorkerBounds, limit: u32) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let page = store.workers_within(bounds, OWN, &after, limit).await.expect("a page");
        pages.push(page.workers.iter().map(worker_line).collect());
        match page.next {
            Some(next) => after = next.name,
            None => return pages,
        }
    }
}

#[tokio::test]
async fn workers_are_listed_with_all_that_they_hold() {
    let (store, _database) = store(WORKERS).await;
    let all = [
        "B 2 1 [few] [j2/a/few] 3 74 104",
        "b 4 [bulk few run] [j1/b/run j1/c/- j1/a/few large/x/bulk] 1 76 101",
        "é 1 [run] [j2/b/run] 1 75 105",
    ];
    assert_eq!(worker_pages(&store, ALL_WORKERS, 50).await, [all.to_vec()]);
    assert_eq!(worker_pages(&store, ALL_WORKERS, 3).await, [all.to_vec()]);
    assert_eq!(worker_pages(&store, ALL_WORKERS, 2).await, [all[..2].to_vec(), all[2..].to_vec()]);
    assert_eq!(worker_pages(&store, ALL_WORKERS, 1).await.concat(), all);
    let page = store.list_workers(OWN, "", 50).await.expect("a page");
    assert_eq!(page.workers.iter().map(worker_line).collect::<Vec<_>>(), all);
    assert_eq!(page.workers[1].stages[0].progress, 0.5);
}

#[tokio::test]
async fn what_a_worker_holds_beyond_a_bound_is_marked() {
    let (store, _database) = store(WORKERS).await;
    let few = WorkerBounds { queues: 2, stages: 1, ..ALL_WORKERS };
    assert_eq!(worker_pages(&store, few, 50).await.concat()[1], "b 4 [bulk few+] [j1/b/run] 1 76 101");
    let at_bound = WorkerBounds { leases: 6, ..ALL_WORKERS };
    assert_eq!(worker_pages(&store, at_bound, 50).await, worker_pages(&store, ALL_WORKERS, 50).await);
    // Neither the second small job nor the large one is looked at.
    let cut = WorkerBounds { leases: 2, ..ALL_WORKERS };
    assert_eq!(worker_pages(&store, cut, 50).await, [["b 3+ [few run] [j1/b/run j1/c/- j1/a/few] 1 73 101"]]);
}

/// A resource with callers and stages of queues and priorities, a page after the other. Stages of the last job have rows of their own.
const WAITERS: &str = r#"
    INSERT INTO resources SELECT 1, '40000000-0000-8000-8000-000000000001', 'gpu', 1, NULL, '{}', 1, NULL, now(), now();
    INSERT INTO permit_waiters SELECT 1, '40000000-0000-8000-8000-000000000001', gen_random_uuid(), json_build_object('server', gen_random_uuid(),
        'claims', json_build_array(), 'priority', priority, 'arrival', at, 'until', 9, 'holder', holder, 'ttl', '{"secs":1,"nanos":0}'::json)
    FROM (VALUES ('low', -5, 1), ('same', 0, 3000000), ('late', 0, 4000001)) c(holder, priority, at);
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us, specs, stages)
    SELECT 1, ('00000000-0000-8000-8000-00000000000' || i)::uuid, 'j' || i, 'test', 1, 1, 2, 0, 0, now(), 0,
        '[{"spec":{"name":"a"}},{"spec":{"name":"b"}}]', '[]' FROM generate_series(1, 2) i;
    INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, retention_us)
    VALUES (1, '00000000-0000-8000-8000-000000000003', 'large', 'test', 1, 1, 2, 0, 0, now(), 0);
    INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on)
    VALUES (1, '00000000-0000-8000-8000-000000000003', 7, '{"name":"x"}', '[]');
    INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, alone, resource_uid, blocked_on)
    SELECT 1, ('00000000-0000-8000-8000-00000000000' || i)::uuid, no, queue, priority, to_timestamp(at), false, resource, resource
    FROM (VALUES (1, 0, 'q', 0, 3), (1, 1, 'p', 0, 4), (2, 0, 'p', 9, 8), (2, 1, 'q', 0, 3), (3, 7, 'r', -5, 2)) s(i, no, queue, priority, at),
        (VALUES ('40000000-0000-8000-8000-000000000001'::uuid)) r(resource);"#;

#[tokio::test]
async fn waiters_are_listed_once_in_the_order_of_priority_and_time() {
    let (store, _database) = store(WAITERS).await;
    let uid = "40000000-0000-8000-8000-000000000001".parse().expect("a uuid");
    let resource = ResourceKey { namespace: OWN, uid };
    let line = |waiter: &WaiterState| match &waiter.requester {
        PermitRequester::Caller { holder, .. } => holder.to_string(),
        PermitRequester::Stage { job_id, name, queue } => format!("{job_id}/{name}/{queue}"),
    };
    let all = ["j2/a/p", "same", "j1/a/q", "j2/b/q", "j1/b/p", "late", "low", "large/x/r"];
    for limit in 1..=9 {
        let (mut found, mut after) = (Vec::new(), WaiterCursor::START);
        loop {
            let page = store.waiters_within(4, resource, &after, limit).await.expect("a page").expect("a resource");
            assert_eq!((page.callers, page.stages), (3, BoundedCount { count: 4, is_capped: true }));
            assert!(page.waiters.len() <= limit as usize);
            found.extend(page.waiters.iter().map(line));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(found, all, "{limit}");
    }
    let page = store.list_waiters(resource, &WaiterCursor::START, 50).await.expect("a page").expect("a resource");
    assert_eq!(page.stages, BoundedCount { count: 5, is_capped: false });
    let other = ResourceKey { namespace: NamespaceId(2), uid };
    assert_eq!(store.list_waiters(other, &WaiterCursor::START, 50).await, Ok(None));
}

#[tokio::test]
async fn collections_are_listed_once_with_bounded_counts() {
    let rows = "INSERT INTO records
        SELECT namespace_id, collection, 'r' || i, 1, '{}', 0, now(), now()
        FROM (VALUES (1, '', 5), (1, 'a', 1), (1, 'b', 3), (1, 'c', 2), (2, 'aa', 1)) v(namespace_id, collection, count), generate_series(1, count) i";
    let (store, _database) = store(rows).await;
    let list = async |of_collection, of_page, limit| {
        let bounds = CollectionBounds { of_collection, of_page };
        let (mut pages, mut after) = (Vec::new(), String::new());
        loop {
            let page = store.collections_within(bounds, OWN, &after, limit).await.expect("a page");
            let line = |state: &super::record::collections::CollectionState| {
                format!("{}{}{}", state.name, state.records.count, if state.records.is_capped { "+" } else { "" })
            };
            pages.push(page.collections.iter().map(line).collect::<Vec<_>>().join(" "));
            match page.next {
                Some(next) => after = next.name,
                None => return pages,
            }
        }
    };
    assert_eq!(list(3, 100, 50).await, ["a1 b3 c2"]);
    assert_eq!(list(3, 100, 3).await, ["a1 b3 c2"]);
    assert_eq!(list(2, 100, 2).await, ["a1 b2+", "c2"]);
    assert_eq!(list(3, 4, 50).await, ["a1 b3", "c2"]);
    // Whether more would come behind the last one is not known there.
    assert_eq!(list(3, 1, 50).await, ["a1", "b3", "c2", ""]);
    assert_eq!(store.list_collections(NamespaceId(2), "", 50).await.expect("a page").collections.len(), 1);
}
