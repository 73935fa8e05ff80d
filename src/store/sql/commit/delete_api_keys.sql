-- delete_api_keys: credentials that ended long ago, below the locked key ring.
DELETE FROM api_keys k
USING (SELECT unnest($1::int4[]) AS c, unnest($2::text[]) AS key_id) AS v
JOIN ok USING (c)
WHERE k.key_id = v.key_id
RETURNING 1
