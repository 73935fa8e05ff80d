-- insert_namespaces: new namespaces.
INSERT INTO namespaces (name)
SELECT v.name
FROM unnest($1::int4[], $2::text[]) AS v(c, name)
JOIN ok USING (c)
RETURNING 1
