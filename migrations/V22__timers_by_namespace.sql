-- V22: stages that wait for a time are counted by queue: the next timers of a namespace. Jobs that have ended are left out, so that the ends of
-- their retention are not looked through. A job or stage without a timer never writes to these, and no update that stayed in place moves.

-- Begin with an expression, as the other indexes that lists walk.
CREATE INDEX jobs_with_timer ON jobs ((namespace_id + 0), wakes_at) WHERE wakes_at IS NOT NULL AND end_time IS NULL;
CREATE INDEX stages_with_timer ON stages ((namespace_id + 0), wakes_at) WHERE wakes_at IS NOT NULL;
