-- resolve_commit: resolves the outcome of a group whose connection was lost, by inserting its id. The insert waits for the old transaction: if
-- that commits no row comes back, and if it does not it never will, since the id is taken.
INSERT INTO write_groups (group_id, components, commit_time)
VALUES ($1, '{}', clock_timestamp())
ON CONFLICT (group_id) DO NOTHING
RETURNING 1
