//! Requests about one job: its id, updates by mask, cancels, waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::path::Path;
use super::{record, submit, text, time};
use crate::domain::field_op::FieldOp;
use crate::domain::id::{JobKey, Name, NamespaceId};
use crate::domain::job::DEFAULT_GRACE;
use crate::domain::refusal::Refusal;
use crate::proto;
use crate::rpc::limits;

/// A job by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedJob {
    /// Its key, whether or not it exists.
    pub key: JobKey,
    /// The id that the caller gave.
    pub job_id: Name,
}

/// Reads the `job_id` of a request.
pub fn named_job(namespace: NamespaceId, job_id: &str) -> Result<NamedJob, Refusal> {
    let job_id = text::job_id(job_id, &Path::Root.field("job_id"))?;
    Ok(NamedJob { key: JobKey::of(namespace, &job_id), job_id })
}

/// Reads the `stage_name` of a request.
pub fn stage_name(given: &str) -> Result<Name, Refusal> {
    text::name(given, &Path::Root.field("stage_name"))
}

/// Reads the `from_stage` of a RetryJob.
pub fn from_stage(given: &str) -> Result<Option<Name>, Refusal> {
    if given.is_empty() {
        return Ok(None);
    }
    text::name(given, &Path::Root.field("from_stage")).map(Some)
}

/// The changes of an UpdateJob.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobPatch {
    /// The new labels, in place of all of the job. None: unchanged.
    pub labels: Option<Arc<BTreeMap<String, String>>>,
    /// The new priority. None: unchanged.
    pub priority: Option<i32>,
    /// Operations on the fields of its context, in order.
    pub context: Vec<FieldOp>,
}

/// Checks an UpdateJob. Without a mask the fields that are set are changed; with one, those that it names, and unset ones are cleared.
pub fn patch(request: proto::UpdateJobRequest) -> Result<JobPatch, Refusal> {
    let root = Path::Root;
    let (mut labels, mut priority) = (!request.labels.is_empty(), request.priority.is_some());
    if let Some(mask) = &request.update_mask {
        (labels, priority) = (false, false);
        let path = root.field("update_mask");
        let path = path.field("paths");
        for (i, name) in mask.paths.iter().enumerate() {
            match name.as_str() {
                "labels" => labels = true,
                "priority" => priority = true,
                "*" => (labels, priority) = (true, true),
                _ => return Err(path.index(i).refuse("must be labels, priority or *")),
            }
        }
    }
    let new_labels = text::labels(request.labels, &root.field("labels"))?;
    let new_priority = submit::priority(request.priority.unwrap_or(0), &root.field("priority"))?;
    let context = match &*request.context_operations {
        [] => Vec::new(),
        operations => record::operations(operations, &root.field("context_operations"))?,
    };
    Ok(JobPatch { labels: labels.then_some(new_labels), priority: priority.then_some(new_priority), context })
}

/// The parameters of a CancelJob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// How long lease holders have to stop.
    pub grace: Duration,
    /// A reason for people. None: none was given.
    pub reason: Option<Name>,
}

/// Checks a CancelJob and fills in its defaults.
pub fn cancel(request: &proto::CancelJobRequest) -> Result<Cancel, Refusal> {
    let root = Path::Root;
    let path = root.field("grace_period");
    let grace = time::parse_optional_duration(request.grace_period.as_ref(), time::GRACE_PERIOD, &path)?;
    let reason: Name = text::prose(&request.reason, limits::MESSAGE_BYTES, &root.field("reason"))?;
    let reason = Some(reason).filter(|reason| !reason.is_empty());
    Ok(Cancel { grace: grace.unwrap_or(DEFAULT_GRACE), reason })
}

/// Reads the `wait` of a WaitJob.
pub fn wait(given: Option<&prost_types::Duration>) -> Result<Duration, Refusal> {
    Ok(time::parse_wait(given, &Path::Root.field("wait"))?.unwrap_or(time::LONGEST_WAIT))
}

/// Reads the `from_version` of a request.
pub fn from_version(given: i64) -> Result<i64, Refusal> {
    if given < 0 {
        return Err(Path::Root.field("from_version").outside("0 or more", given));
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
        match result {
            Err(Refusal::InvalidField { path, .. }) => path,
            other => panic!("{other:?}"),
        }
    }

    fn update(labels: &[(&str, &str)], priority: Option<i32>, mask: Option<&[&str]>) -> proto::UpdateJobRequest {
        let paths = |mask: &[&str]| mask.iter().map(|path| (*path).to_owned()).collect();
        proto::UpdateJobRequest {
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            priority,
            update_mask: mask.map(|mask| prost_types::FieldMask { paths: paths(mask) }),
            ..Default::default()
        }
    }

    #[test]
    fn a_mask_says_what_changes() {
        for (request, labels, priority) in [
            (update(&[], None, None), None, None),
            (update(&[("a", "b")], None, None), Some(1), None),
            (update(&[], Some(0), None), None, Some(0)),
            (update(&[], None, Some(&["labels"])), Some(0), None),
            (update(&[("a", "b")], Some(3), Some(&["priority"])), None, Some(3)),
            (update(&[], None, Some(&["*"])), Some(0), Some(0)),
            (update(&[("a", "b")], Some(3), Some(&[])), None, None),
        ] {
            let patch = patch(request).expect("valid");
            assert_eq!((patch.labels.map(|labels| labels.len()), patch.priority), (labels, priority));
        }
        assert_eq!(path_of(patch(update(&[], None, Some(&["labels", "kind"])))), "update_mask.paths[1]");
        assert_eq!(path_of(patch(update(&[], Some(1_001), None))), "priority");
    }

    #[test]
    fn cancels_and_waits_have_defaults_and_limits() {
        let base = proto::CancelJobRequest::default;
        assert_eq!(cancel(&base()).map(|cancel| cancel.grace), Ok(DEFAULT_GRACE));
        let long = Some(prost_types::Duration { seconds: 86_401, nanos: 0 });
        assert_eq!(path_of(cancel(&proto::CancelJobRequest { grace_period: long, ..base() })), "grace_period");
        assert_eq!(path_of(cancel(&proto::CancelJobRequest { reason: "x".repeat(1_025), ..base() })), "reason");
        assert_eq!(wait(None), Ok(time::LONGEST_WAIT));
        assert_eq!(path_of(wait(long.as_ref())), "wait");
        assert_eq!(path_of(named_job(NamespaceId(1), "")), "job_id");
        assert_eq!(path_of(from_version(-1)), "from_version");
    }
}
