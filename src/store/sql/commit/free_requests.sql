-- free_requests: request ids that were taken to be new and are.
SELECT v.c
FROM unnest($1::int4[], $2::int4[], $3::uuid[]) AS v(c, namespace_id, request_id)
WHERE NOT EXISTS (SELECT FROM requests r WHERE r.namespace_id = v.namespace_id AND r.request_id = v.request_id)
