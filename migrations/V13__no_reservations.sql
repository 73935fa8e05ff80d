-- V13: ready stages are picked without being marked. The index of the pick has the negated priority, so that the place from which a pick goes on is one
-- comparison of rows.

DROP INDEX ready_stages_pick;
ALTER TABLE ready_stages DROP COLUMN reserved_by, DROP COLUMN reserved_until;
CREATE INDEX ready_stages_pick ON ready_stages (queue, namespace_id, alone, (-priority), ready_at, job_uid, stage_no)
    WHERE blocked_on IS NULL;
