-- V7: budgets of failures by class, stages that are leased alone, and timeouts of jobs that stand still.

ALTER TABLE stages ADD COLUMN failures json;
COMMENT ON COLUMN stages.failures IS
    'class → attempts of this run that failed with it; those from before the column are in no class and count against the policy''s budget. Null: none';

ALTER TABLE ready_stages ADD COLUMN alone boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN ready_stages.alone IS
    'the last attempt ended with its lease, and its worker may have died of it: nothing else is leased in one reply with it';
UPDATE ready_stages r
SET alone = true
FROM stages s
WHERE s.namespace_id = r.namespace_id AND s.job_uid = r.job_uid AND s.stage_no = r.stage_no
    AND s.failure ->> 'class' = 'LEASE_EXPIRED';
-- As many of those that are leased alone are picked as there are polls, and of the others as the polls have room for: two ranges of one
-- index, so that neither pick passes over the rows of the other.
DROP INDEX ready_stages_pick;
CREATE INDEX ready_stages_pick ON ready_stages (queue, namespace_id, alone, priority DESC, ready_at, job_uid, stage_no)
    WHERE blocked_on IS NULL;

ALTER TABLE jobs ADD COLUMN timeout_left_us bigint;
COMMENT ON COLUMN jobs.timeout_left_us IS
    'in state 3 (PAUSED), of a job with a timeout: microseconds of it that are left; times_out_at is null meanwhile';
UPDATE jobs
SET timeout_left_us = greatest(0, (extract(epoch FROM times_out_at - greatest(clock_timestamp(), opens_at)) * 1000000)::bigint),
    times_out_at = NULL, wakes_at = opens_at
WHERE state = 3 AND times_out_at IS NOT NULL;
