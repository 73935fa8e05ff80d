-- search_segments: the segments that match a search, best first. Each is compared with the words of the query as its own language stems them. At
-- most {most} segments are looked at, and {ranked} that match are ranked, in the order in which they are found. What stands in braces is put together
-- from the query, with every value bound.
WITH ranked AS (
    SELECT m.session_uid, m.session_id, m.key, m.arrival, m.search_config, ts_rank(m.search_vector, m.wanted, 1) AS rank
    FROM (
        SELECT g.session_uid, s.session_id, g.key, g.arrival, g.search_config, g.search_vector, g.wanted
        FROM (
            SELECT *, ({wanted}::text[]::tsquery[])[array_position({configs}::text[], g.search_config)] AS wanted
            FROM segments g
            WHERE {range}
            LIMIT {most}
        ) g
        JOIN sessions s ON s.namespace_id = g.namespace_id AND s.session_uid = g.session_uid AND s.state <> 3
        WHERE g.search_vector @@ g.wanted AND {filter}
        LIMIT {ranked}
    ) m
)
SELECT r.session_uid, r.session_id, r.key, r.arrival, r.rank, r.search_config
FROM ranked r
WHERE {after}
ORDER BY r.rank DESC, r.session_uid, r.arrival
LIMIT {limit}
