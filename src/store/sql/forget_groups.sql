-- forget_groups: outcomes of groups that nobody can ask for any more, some at a time.
DELETE FROM write_groups g
USING (SELECT group_id FROM write_groups WHERE commit_time < now() - interval '10 minutes' LIMIT $1) old
WHERE g.group_id = old.group_id
RETURNING 1
