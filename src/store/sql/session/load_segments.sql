-- load_segments: segments by key, deleted ones too.
SELECT s.namespace_id, s.session_uid, s.key, s.arrival, s.version, s.kind, s.status, s.sequence, s.parent_key, s.start_ns, s.end_ns, s.speaker,
    s.language, s.text, s.words, s.confidence, s.content, s.inline_data, s.metadata, s.create_time, s.update_time, s.delete_time
FROM unnest($1::int4[], $2::uuid[], $3::text[]) AS k(namespace_id, session_uid, key)
JOIN segments s ON s.namespace_id = k.namespace_id AND s.session_uid = k.session_uid AND s.key = k.key
