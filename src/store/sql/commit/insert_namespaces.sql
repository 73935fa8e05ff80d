-- insert_namespaces: new namespaces. Their fencing tokens start above those of all deleted ones: the name may be one of them.
INSERT INTO namespaces (name, fencing_floor)
SELECT v.name, g.fencing_floor
FROM (SELECT unnest($1::int4[]) AS c, unnest($2::text[]) AS name) AS v
JOIN ok USING (c)
JOIN global_floor g ON g.one
RETURNING 1
