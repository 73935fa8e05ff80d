-- share_namespaces: namespaces that must still exist when jobs are put into them; the weakest lock keeps them from being
-- deleted and disturbs nobody else.
SELECT v.c
FROM unnest($1::int4[], $2::int4[]) AS v(c, namespace_id)
JOIN namespaces n ON n.namespace_id = v.namespace_id
FOR KEY SHARE OF n SKIP LOCKED
