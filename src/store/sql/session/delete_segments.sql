-- delete_segments: deletes at most $3 segments of a session that is deleted. Nothing is added to it any more.
DELETE FROM segments s
USING (
    SELECT g.namespace_id, g.session_uid, g.key
    FROM segments g
    WHERE g.namespace_id = $1 AND g.session_uid = $2
        AND EXISTS (SELECT FROM sessions d WHERE d.namespace_id = $1 AND d.session_uid = $2 AND d.state = 3)
    LIMIT $3
) old
WHERE s.namespace_id = old.namespace_id AND s.session_uid = old.session_uid AND s.key = old.key
RETURNING 1
