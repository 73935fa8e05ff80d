//! Lists by name: what their pages hold where stages, queues, leases and records are more than a page may read.

use super::Store;
use super::connection::Target;
use super::job::queues::{QueueBounds, QueueState};
use super::record::collections::CollectionBounds;
use super::tests::database;
use crate::config::Config;
use crate::domain::id::NamespaceId;
use crate::domain::time::Timestamp;

const OWN: NamespaceId = NamespaceId(1);
const LARGE: QueueBounds = QueueBounds { of_queue: 100, of_page: 1_000, names: 100, leases: 100 };

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
