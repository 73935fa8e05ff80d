-- V17: ready stages wait in the line of a resource until they are woken. Nothing times out, so stages that wait cost nothing.

ALTER TABLE ready_stages ADD COLUMN resource_uid uuid, ADD COLUMN amount bigint;
COMMENT ON COLUMN ready_stages.resource_uid IS
    'the resource in whose line it waits, or the first whose permit it needs. Null: it needs none, or became ready before this column existed';
COMMENT ON COLUMN ready_stages.amount IS 'how much of that resource it needs. Null: 1, or the whole resource';
COMMENT ON COLUMN ready_stages.blocked_on IS
    'the resource whose permit it waits for, until it is woken; such a stage is not picked. It is no part of any revision';
UPDATE ready_stages SET resource_uid = blocked_on WHERE blocked_on IS NOT NULL;

DROP INDEX ready_stages_forgotten;
DROP INDEX ready_stages_blocked;
ALTER TABLE ready_stages DROP COLUMN blocked_until;
-- The lines: by resource, and in it by queue, so that the heads of all queues are found without reading what waits before them.
CREATE INDEX ready_stages_blocked ON ready_stages (blocked_on, namespace_id, queue, priority DESC, ready_at, job_uid, stage_no)
    WHERE blocked_on IS NOT NULL;
-- Stages that need a resource and can be picked: they join the line when it is found to be in use.
CREATE INDEX ready_stages_by_resource ON ready_stages (resource_uid, namespace_id, queue)
    WHERE resource_uid IS NOT NULL AND blocked_on IS NULL;

-- The place that stages share in the line of a resource. Those that were woken are waited for no longer than before.
UPDATE resources
SET state = (jsonb_set(state::jsonb - 'turn', '{stages}', state::jsonb -> 'turn' #- '{called_until}'))::json,
    wakes_at = now()
WHERE state -> 'turn' IS NOT NULL;
