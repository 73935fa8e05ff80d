-- untimed_segments: what exports and statistics read of the segments of a session that have no start, in order, behind an arrival number.
SELECT key, arrival, kind, status, start_ns, end_ns, speaker, language, text
FROM segments
WHERE namespace_id + 0 = $1 AND session_uid = $2 AND delete_time IS NULL AND start_ns IS NULL AND arrival > $3
ORDER BY start_ns, arrival
LIMIT $4
