-- load_sessions: sessions by key, without their segments.
SELECT s.namespace_id, s.session_uid, s.session_id, s.title, s.labels, s.state, s.version, s.segment_count, s.arrivals, s.retention_us,
    s.create_time, s.update_time, s.end_time, s.expire_time
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, session_uid)
JOIN sessions s ON s.namespace_id = k.namespace_id AND s.session_uid = k.session_uid
