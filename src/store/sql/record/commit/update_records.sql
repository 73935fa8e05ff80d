-- update_records: changed records, where they have the version that was read and are the same record. A record that was deleted and created
-- again in one group gets a new create_time.
UPDATE records r
SET version = v.version, fields = v.fields, apart = coalesce(v.apart, 0), create_time = v.create_time, update_time = v.update_time
FROM {rows}
JOIN ok USING (c)
WHERE r.namespace_id = v.namespace_id AND r.collection = v.collection AND r.record_id = v.record_id
    AND r.version = v.replaced_version AND r.create_time = coalesce(v.replaced_create_time, v.create_time)
RETURNING 1
