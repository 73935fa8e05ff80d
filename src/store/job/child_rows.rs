//! Rows of specs and of history.

use crate::domain::event::{JobEvent, StageChange};
use crate::domain::id::JobKey;
use crate::domain::job::JobChanges;
use crate::domain::stage::Stage;
use crate::store::commit::columns::*;
use crate::store::pg::types::JsonText;
use crate::store::values::{owned, stage_no, text};

pub(in crate::store) fn spec_row(c: i32, key: JobKey, stage: &Stage, changes: &JobChanges) -> SpecRow {
    SpecRow {
        c,
        namespace_id: key.namespace.0,
        job_uid: key.uid,
        stage_no: stage_no(stage.no),
        spec: JsonText::of(&stage.spec),
        depends_on: JsonText::of(&stage.depends_on),
        input: changes.inputs.get(&stage.no).and_then(Option::as_ref).map(text),
        parent_no: stage.parent.map(|parent| stage_no(parent.no)),
        required_by: (!stage.required_by.is_empty()).then(|| JsonText::of(&stage.required_by)),
        plan_digest: stage.plan_digest,
    }
}

pub(in crate::store) fn event_row(c: i32, key: JobKey, event: &JobEvent) -> EventRow {
    let stages: Vec<&StageChange> = event.stages.iter().collect();
    EventRow {
        c,
        namespace_id: key.namespace.0,
        job_uid: key.uid,
        revision: event.revision,
        event_time: event.event_time,
        run: event.run,
        kind: event.kind as i16,
        job_state: event.job_phase as i16,
        worker_id: event.worker_id.as_ref().map(owned),
        stages: (!stages.is_empty()).then(|| JsonText::of(&stages)),
        progress: event.progress,
    }
}
