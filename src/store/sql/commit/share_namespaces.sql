-- share_namespaces: namespaces that must still exist when jobs are put into them; the weakest lock keeps them from being
-- deleted and disturbs nobody else. Each is locked once, however many jobs of the group go into it.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::int4[]) AS namespace_id) AS v
JOIN (
    SELECT namespace_id FROM namespaces WHERE namespace_id = ANY ($2::int4[]) FOR KEY SHARE SKIP LOCKED
) n USING (namespace_id)
