-- update_sessions: changed sessions, under the lock of lock_sessions. Most changes are appends, which leave all but the counts as it was.
UPDATE sessions s
SET version = v.version, segment_count = v.segment_count, arrivals = v.arrivals, update_time = v.update_time,
    state = coalesce(v.state, s.state), title = CASE WHEN v.title IS NULL THEN s.title ELSE nullif(v.title, '') END,
    labels = coalesce(v.labels, s.labels), retention_us = coalesce(v.retention_us, s.retention_us),
    end_time = coalesce(v.end_time, s.end_time), expire_time = coalesce(v.expire_time, s.expire_time)
FROM {rows}
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.session_uid = v.session_uid
RETURNING 1
