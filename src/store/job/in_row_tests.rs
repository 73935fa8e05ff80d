//! Random jobs, written in either shape and loaded again.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::domain::failure::{Failure, FailureClass, FailureReport};
use crate::domain::id::{JobKey, NamespaceId, StageNo};
use crate::domain::job::{Job, JobChanges, JobMeta, JobState, Tally};
use crate::domain::permit::HeldPermit;
use crate::domain::retry::{FailureCounts, RetryPolicy};
use crate::domain::stage::{Attempt, DependsWhen, Lease, OnFailure, Parent, Stage, StageSpec, StageState};
use crate::domain::stage_table::StageTable;
use crate::domain::time::Timestamp;
use crate::store::commit::columns::NamespaceRow;
use crate::store::commit::{Plan, Prepared};
use crate::store::job::in_row;
use crate::store::load;
use crate::store::pg::connection::{Target, WRITER_SETUP};
use crate::store::tests::database;

/// Jobs that are written.
const JOBS: usize = 100;

fn text() -> impl Strategy<Value = String> {
    "[ -~äß€😀\"\\\\\n]{1,20}"
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000_000_000_i64).prop_map(Timestamp)
}

fn failure() -> impl Strategy<Value = Arc<Failure>> {
    (text(), prop::option::of(text()), moment(), 0..8_usize, prop::option::of(0..u64::MAX / 2)).prop_map(
        |(message, details, failure_time, class, wait)| {
            let class = FailureClass::ALL[class];
            let report = FailureReport {
                class,
                code: String::new(),
                message: message.clone(),
                retry_after: wait.map(Duration::from_micros),
                details,
            };
            let retry_wait = wait.map(Duration::from_nanos);
            let (stage_name, attempt, max_attempts, budget) = (message, 1, 3, None);
            Arc::new(Failure { report, stage_name, attempt, max_attempts, budget, retry_wait, failure_time })
        },
    )
}

fn state() -> impl Strategy<Value = StageState> {
    let permit = (uuid(), uuid(), any::<i64>());
    let permit = permit.prop_map(|(resource, id, fencing_token)| HeldPermit { resource, id, fencing_token });
    let lease = (text(), 1..u64::MAX / 2_000, moment()).prop_map(|(worker_id, duration, expires_at)| Lease {
        worker_id: worker_id.into(),
        duration: Duration::from_micros(duration),
        expires_at,
    });
    let attempt = (prop::option::of(lease), prop::option::of(moment()), prop::collection::vec(permit, 0..3));
    let attempt = attempt.prop_map(|(lease, deadline, permits)| Attempt { lease, deadline, permits: permits.into() });
    prop_oneof![
        Just(StageState::Blocked),
        Just(StageState::Ready),
        attempt.prop_map(StageState::Running),
        moment().prop_map(|until| StageState::Backoff { until }),
        Just(StageState::Succeeded),
        Just(StageState::Failed),
        Just(StageState::Cancelled),
        Just(StageState::Skipped),
    ]
}

fn spec() -> impl Strategy<Value = StageSpec> {
    (text(), 0.0..1e9, any::<bool>(), prop::option::of(1..u64::MAX / 2), prop::option::of(text()), 1..9_u32).prop_map(
        |(queue, weight, flag, timeout, group_key, max_attempts)| StageSpec {
            name: "named later".into(),
            queue: queue.into(),
            depends_when: if flag { DependsWhen::AllFinished } else { DependsWhen::AllSucceeded },
            on_failure: if flag { OnFailure::Continue } else { OnFailure::FailJob },
            weight,
            retry: Arc::new(RetryPolicy { max_attempts, ..RetryPolicy::default() }),
            lease_duration: timeout.map(Duration::from_nanos),
            timeout: timeout.map(Duration::from_micros),
            group_key: group_key.map(Into::into),
            direct: flag,
            permits: Vec::new(),
        },
    )
}

fn stage() -> impl Strategy<Value = Stage> {
    let numbers = (1..i64::MAX, 1..i64::MAX, 0..1000_u32, 0..i64::MAX);
    let marks = (uuid(), prop::option::of(uuid()), prop::option::of(uuid()), prop::option::of(any::<i64>()));
    let reported = (0.0..=1.0, prop::option::of(text()), prop::option::of(failure()), 0..8_usize);
    let times = (prop::option::of(moment()), prop::option::of(moment()));
    (spec(), state(), numbers, marks, reported, times).prop_map(|(spec, state, numbers, marks, reported, times)| {
        let mut failures = FailureCounts::default();
        FailureClass::ALL.iter().take(reported.3).for_each(|class| failures.add(*class));
        Stage {
            state,
            parent: marks.3.map(|fencing_token| Parent { no: 0, fencing_token }),
            plan_digest: marks.2,
            version: numbers.0,
            changed_revision: numbers.1,
            attempt: numbers.2,
            failures,
            token_secret: Some(marks.0),
            outcome_digest: marks.1,
            progress: reported.0,
            message: reported.1.map(Into::into),
            failure: reported.2,
            start_time: times.0,
            end_time: times.1,
            ..Stage::new(0, Arc::new(spec), [].into(), numbers.3)
        }
    })
}

fn job() -> impl Strategy<Value = Job> {
    let arrows = prop::collection::vec(any::<bool>(), 16);
    (prop::collection::vec(stage(), 1..=in_row::MAX_STAGES), arrows, 1..i64::MAX, moment()).prop_map(
        |(stages, arrows, revision, create_time)| {
            let mut table = StageTable::default();
            for (no, mut stage) in (0..).zip(stages) {
                Arc::make_mut(&mut stage.spec).name = format!("s{no}").into();
                let before = |shift: usize| (0..no).filter(|at: &StageNo| arrows[(*at as usize) * 4 + shift]).collect();
                (stage.no, stage.depends_on, stage.required_by) = (no, before(0), before(1));
                table.put(Arc::new(stage));
            }
            let meta = JobMeta {
                job_id: "job".into(),
                kind: "test".into(),
                create_time,
                delayed_until: None,
                timeout: None,
                retention: Duration::from_secs(1),
                retry: Arc::default(),
            };
            Job {
                key: JobKey { namespace: NamespaceId(1), uid: Uuid::nil() },
                meta: Arc::new(meta),
                labels: Arc::default(),
                priority: 0,
                revision,
                run: 1,
                state: JobState::Running,
                progress: 0.5,
                failure: None,
                cancel_reason: None,
                opens_at: None,
                times_out_at: None,
                start_time: None,
                end_time: None,
                expire_time: None,
                has_stage_rows: false,
                stages: table,
                graph: Arc::default(),
                tally: Tally::default(),
            }
        },
    )
}

#[tokio::test]
async fn a_job_is_the_same_whether_it_is_one_row_or_has_rows_for_its_stages() {
    let database = database().await;
    let target = Target::parse(database.url()).expect("our own URL");
    let client = target.connect(WRITER_SETUP).await.expect("Postgres listens");
    let mut runner = TestRunner::deterministic();
    let (mut plan, mut written) = (Plan::default(), Vec::new());
    for i in 0..JOBS {
        let mut job = job().new_tree(&mut runner).expect("a job").current();
        job.derive();
        for has_stage_rows in [false, true] {
            let uid = Uuid::from_u128(i as u128 * 2 + u128::from(has_stage_rows));
            let key = JobKey { uid, ..job.key };
            let job = Job { key, has_stage_rows, ..job.clone() };
            let changes =
                JobChanges { stages: job.stages.iter().map(|stage| stage.no).collect(), ..JobChanges::default() };
            let c = i32::try_from(written.len()).expect("few jobs");
            plan.key_share_namespaces.push(NamespaceRow { c, namespace_id: 1 });
            plan.write_job(c, None, &job, &changes, Timestamp(0));
            written.push(job);
        }
    }
    let committed = plan.commit(&client, &mut Prepared::default(), Uuid::new_v4()).await.expect("committed");
    assert_eq!(committed.components.len(), 2 * JOBS);
    let keys: Vec<JobKey> = written.iter().map(|job| job.key).collect();
    let loaded = load::jobs(&client, &keys, &HashMap::default()).await.expect("a read");
    // The graph follows from the stages, and its maps have no order.
    let shown = |job: &Job| format!("{:?}", Job { graph: Arc::default(), ..job.clone() });
    for job in written {
        assert_eq!(shown(&loaded[&job.key]), shown(&job));
    }
}
