-- update_segments: changed segments, under the lock of their sessions.
UPDATE segments s
SET version = v.version, status = v.status, sequence = v.sequence, parent_key = v.parent_key, start_ns = v.start_ns, end_ns = v.end_ns,
    speaker = v.speaker, language = v.language, text = v.text, words = v.words, confidence = v.confidence, content = v.content,
    inline_data = v.inline_data, metadata = v.metadata, update_time = v.update_time, delete_time = v.delete_time,
    search_config = v.search_config, search_text = v.search_text, search_vector = v.search_vector
FROM {rows}
JOIN ok USING (c)
WHERE s.namespace_id = v.namespace_id AND s.session_uid = v.session_uid AND s.key = v.key
RETURNING 1
