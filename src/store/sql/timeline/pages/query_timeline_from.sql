-- query_timeline_from: as query_timeline, of a range that has a start: along one index the segments that begin in the range, and those of a minute at
-- most that begin less than a minute before it; along another, those before it that last longer, or whose end is not known.
SELECT s.key, s.start_ns, s.arrival, s.matches, s.place = {most} AS is_last
FROM (
    SELECT g.key, g.start_ns, g.arrival, row_number() OVER () AS place, ({filter}) IS TRUE AS matches
    FROM (
        SELECT g.key, g.start_ns, g.end_ns, g.arrival, g.kind, g.status, g.speaker, g.language
        FROM (
            (SELECT g.key, g.start_ns, g.end_ns, g.arrival, g.kind, g.status, g.speaker, g.language
            FROM segments g
            WHERE {range} AND g.start_ns > {start}::bigint - 60000000000
                AND (g.start_ns >= {start}::bigint OR g.end_ns - g.start_ns <= 60000000000)
            ORDER BY {order})
            UNION ALL
            (SELECT g.key, g.start_ns, g.end_ns, g.arrival, g.kind, g.status, g.speaker, g.language
            FROM segments g
            WHERE {lasting} AND g.start_ns < {start}::bigint AND (g.end_ns IS NULL OR g.end_ns - g.start_ns > 60000000000)
            ORDER BY {order})
        ) g
        ORDER BY {order} LIMIT {most}
    ) g
) s
WHERE s.matches OR s.place = {most}
LIMIT {limit}
