-- insert_requests: remembers the first result of each request id, in key order.
INSERT INTO requests (namespace_id, request_id, digest, job_uids, stage_no, revision, applied, create_time, versions)
SELECT v.namespace_id, v.request_id, v.digest, v.job_uids, v.stage_no, v.revision, v.applied, v.create_time, v.versions
FROM unnest($1::int4[], $2::int4[], $3::uuid[], $4::uuid[], $5::bytea[], $6::int4[], $7::int8[], $8::bool[], $9::timestamptz[],
    $10::bytea[])
    AS v(c, namespace_id, request_id, digest, job_uids, stage_no, revision, applied, create_time, versions)
JOIN ok USING (c)
RETURNING 1
