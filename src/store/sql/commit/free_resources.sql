-- free_resources: resources that were taken not to be there and are not. Two who see the same one missing collide in the insert, which
-- undoes the whole group of one of them.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id, unnest($3::uuid[]) AS resource_uid) AS v
WHERE NOT EXISTS (SELECT FROM resources r WHERE r.namespace_id = v.namespace_id AND r.resource_uid = v.resource_uid)
