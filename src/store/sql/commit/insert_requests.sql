-- insert_requests: remembers the first result of each request id, in key order.
INSERT INTO requests (namespace_id, request_id, digest, job_uids, stage_no, revision, applied, create_time, versions)
SELECT v.namespace_id, v.request_id, v.digest, v.job_uids, v.stage_no, v.revision, v.applied, v.create_time, v.versions
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS request_id,
    unnest($4::uuid[]) AS digest, unnest($5::bytea[]) AS job_uids, unnest($6::int4[]) AS stage_no,
    unnest($7::int8[]) AS revision, unnest($8::bool[]) AS applied, unnest($9::timestamptz[]) AS create_time,
    unnest($10::bytea[]) AS versions) AS v
JOIN ok USING (c)
RETURNING 1
