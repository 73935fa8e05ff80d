-- V21: stages that wait for a permit are counted by queue. The index has only those that wait, so a stage without permits never writes to it.

-- Begins with an expression, so that no statement that names a resource takes it, whatever statistics there are.
CREATE INDEX ready_stages_waiting ON ready_stages ((namespace_id + 0), queue) WHERE blocked_on IS NOT NULL;
