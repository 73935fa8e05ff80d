-- segments_after: what changed in a session after a version and an arrival number, deleted segments too, in the order of changes: at most $5
-- segments, and no more once they have $6 bytes. `found` is how many there are within the first limit.
SELECT s.*
FROM (
    SELECT s.namespace_id, s.session_uid, s.key, s.arrival, s.version, s.kind, s.status, s.sequence, s.parent_key, s.start_ns, s.end_ns, s.speaker,
        s.language, s.text, s.words, s.confidence, s.content, s.inline_data, s.metadata, s.create_time, s.update_time, s.delete_time,
        count(*) OVER () AS found,
        sum(coalesce(octet_length(s.text), 0) + coalesce(octet_length(s.words), 0) + coalesce(octet_length(s.inline_data), 0)
            + coalesce(octet_length(s.metadata), 0))
            OVER (ORDER BY s.version, s.arrival ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM (
        SELECT * FROM segments s
        WHERE s.namespace_id + 0 = $1 AND s.session_uid = $2 AND (s.version, s.arrival) > ($3, $4)
        ORDER BY s.version, s.arrival
        LIMIT $5
    ) s
) s
WHERE s.bytes_before IS NULL OR s.bytes_before < $6
ORDER BY s.version, s.arrival
