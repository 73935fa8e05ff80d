-- free_namespaces: names that were taken to be unused and are.
SELECT v.c
FROM unnest($1::int4[], $2::text[]) AS v(c, name)
WHERE NOT EXISTS (SELECT FROM namespaces n WHERE n.name = v.name)
