-- list_collections: the collections of a namespace behind a name, in the order of their names, at most $3, with the number of their records. In each,
-- $4 records are counted, and one more where there are more; the list ends with the collection with which $5 have been counted. The walk goes
-- from one collection to the next in the primary key. Contexts of jobs, in the collection without a name, come before all of them.
WITH RECURSIVE counted AS (
    SELECT $2::text COLLATE "C" AS collection, 0::int8 AS place, 0::int8 AS records, 0::int8 AS total
    UNION ALL
    SELECT n.collection, c.place + 1, r.records, c.total + r.records
    FROM counted c
    CROSS JOIN LATERAL (
        SELECT r.collection
        FROM records r
        WHERE r.namespace_id = $1::int4 AND r.collection > c.collection
        ORDER BY r.collection
        LIMIT 1
    ) n
    CROSS JOIN LATERAL (
        SELECT count(*) AS records
        FROM (
            SELECT
            FROM records r
            WHERE r.namespace_id = $1::int4 AND r.collection = n.collection
            LIMIT $4::int8 + 1
        ) r
    ) r
    WHERE c.place < $3::int8 AND c.total < $5::int8
)
SELECT c.collection, c.records FROM counted c WHERE c.place > 0 ORDER BY c.place
