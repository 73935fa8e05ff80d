-- list_audit_events: entries of the audit log, the newest first, behind a moment and an entry; by principal, rpc and time where they are given.
SELECT a.event_id, a.event_time, a.principal, a.method, a.namespace, a.target, a.details
FROM audit_events a
WHERE ($1::timestamptz IS NULL OR (a.event_time, a.event_id) < ($1, $2::int8))
    AND ($3::text IS NULL OR a.principal = $3)
    AND ($4::text IS NULL OR a.method = $4)
    AND ($5::timestamptz IS NULL OR a.event_time >= $5)
    AND ($6::timestamptz IS NULL OR a.event_time < $6)
ORDER BY a.event_time DESC, a.event_id DESC
LIMIT $7
