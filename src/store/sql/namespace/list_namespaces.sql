-- list_namespaces: namespaces behind a name, in the order of their names, that are in one of some ranges of names. Each range is walked along
-- the index of names for one page.
SELECT n.namespace_id, n.name, n.version, n.fencing_floor, n.create_time, true
FROM (
    SELECT DISTINCT n.name
    FROM unnest($3::text[], $4::text[]) AS p(low, high)
    CROSS JOIN LATERAL (
        SELECT n.name
        FROM namespaces n
        WHERE n.name > $1 AND n.name >= p.low AND n.name <= p.high
        ORDER BY n.name
        LIMIT $2
    ) n
    ORDER BY n.name
    LIMIT $2
) p
JOIN namespaces n ON n.name = p.name
ORDER BY n.name
