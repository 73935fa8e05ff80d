-- free_requests: request ids that were taken to be new and are.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS request_id) AS v
WHERE NOT EXISTS (SELECT FROM requests r WHERE r.namespace_id = v.namespace_id AND r.request_id = v.request_id)
