-- forget_audit_events: deletes at most $1 entries of the audit log that are older than 400 days.
DELETE FROM audit_events a
USING (
    SELECT event_id FROM audit_events WHERE event_time < now() - interval '400 days' ORDER BY event_time LIMIT $1
) old
WHERE a.event_id = old.event_id
RETURNING 1
