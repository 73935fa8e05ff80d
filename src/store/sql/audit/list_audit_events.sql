-- list_audit_events: entries of the audit log, newest first, behind a time and an entry; by principal, rpc and time where these are given. It
-- reads a bounded number of entries. Each row also has the last entry that was read, if there may be more behind it; a row without an entry
-- has that alone.
WITH looked AS MATERIALIZED (
    SELECT event_id, event_time, principal, method, namespace, target, details
    FROM audit_events
    WHERE ($1::timestamptz IS NULL OR (event_time, event_id) < ($1, $2::int8))
        AND ($5::timestamptz IS NULL OR event_time >= $5)
        AND ($6::timestamptz IS NULL OR event_time < $6)
    ORDER BY event_time DESC, event_id DESC
    LIMIT $8
), found AS MATERIALIZED (
    SELECT *
    FROM looked
    WHERE ($3::text IS NULL OR principal = $3) AND ($4::text IS NULL OR method = $4)
    ORDER BY event_time DESC, event_id DESC
    LIMIT $7
), next AS (
    SELECT event_time, event_id FROM looked WHERE (SELECT count(*) FROM looked) = $8 ORDER BY event_time, event_id LIMIT 1
)
SELECT n.event_time, n.event_id, f.event_id, f.event_time, f.principal, f.method, f.namespace, f.target, f.details
FROM (SELECT 1) one
LEFT JOIN next n ON true
LEFT JOIN found f ON true
ORDER BY f.event_time DESC, f.event_id DESC
