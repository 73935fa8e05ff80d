-- settle_group: finds out what became of a group whose connection was lost. Putting its id ourselves waits for the old
-- transaction: if that commits we get no row, and if it has not, it never will, since the id is ours now.
INSERT INTO write_groups (group_id, components, commit_time)
VALUES ($1, '{}', clock_timestamp())
ON CONFLICT (group_id) DO NOTHING
RETURNING 1
