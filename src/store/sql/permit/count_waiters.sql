-- count_waiters: of a resource whether it has a policy, how many callers wait for a permit, at most 10,000, and how many stages, counted to one more
-- than $3.
SELECT s.policy IS NOT NULL AS has_policy,
    (SELECT count(*) FROM permit_waiters w WHERE w.namespace_id = $1::int4 AND w.resource_uid = $2::uuid) AS callers,
    (SELECT count(*) FROM (
        SELECT 1 FROM ready_stages r WHERE r.blocked_on = $2::uuid AND r.namespace_id = $1::int4 LIMIT $3::int8 + 1
    ) r) AS stages
FROM resources s
WHERE s.namespace_id = $1::int4 AND s.resource_uid = $2::uuid
