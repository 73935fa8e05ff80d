-- query_timeline: the keys of segments of a session that match a query, along one index; and the last segment that was read where as many were
-- read as may be, whether it matches or not. What stands in braces is put together from the query, with every value bound.
SELECT s.key, s.start_ns, s.arrival, s.matches, s.place = {most} AS is_last
FROM (
    SELECT g.key, g.start_ns, g.arrival, row_number() OVER () AS place, ({filter}) IS TRUE AS matches
    FROM (
        SELECT g.key, g.start_ns, g.end_ns, g.arrival, g.kind, g.status, g.speaker, g.language
        FROM segments g WHERE {range} ORDER BY {order} LIMIT {most}
    ) g
) s
WHERE s.matches OR s.place = {most}
LIMIT {limit}
