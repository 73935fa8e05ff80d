-- load_requests: remembered requests by id.
SELECT r.namespace_id, r.request_id, r.digest, r.job_uids, r.stage_no, r.revision, r.applied, r.versions
FROM unnest($1::int4[], $2::uuid[]) AS k(namespace_id, request_id)
JOIN requests r ON r.namespace_id = k.namespace_id AND r.request_id = k.request_id
