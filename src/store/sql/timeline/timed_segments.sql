-- timed_segments: what exports and statistics read of the segments of a session that have a start, in order, behind a position.
SELECT key, arrival, kind, status, start_ns, end_ns, speaker, language, text
FROM segments
WHERE namespace_id + 0 = $1 AND session_uid = $2 AND delete_time IS NULL AND (start_ns, arrival) > ($3, $4)
ORDER BY start_ns, arrival
LIMIT $5
