-- insert_namespaces: new namespaces.
INSERT INTO namespaces (name)
SELECT v.name
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::text[]) AS name) AS v
JOIN ok USING (c)
RETURNING 1
