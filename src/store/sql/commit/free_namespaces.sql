-- free_namespaces: names that were taken to be unused and are.
SELECT v.c
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::text[]) AS name) AS v
WHERE NOT EXISTS (SELECT FROM namespaces n WHERE n.name = v.name)
