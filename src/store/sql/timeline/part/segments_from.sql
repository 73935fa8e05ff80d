-- segments_from: what query_timeline reads of a range that has a start: along one index the segments that begin in the range, and those of a minute
-- at most that begin less than a minute before it; along another, those before it that last longer, or whose end is not known.
SELECT g.*
FROM (
    (SELECT {columns}
    FROM segments g
    WHERE {range} AND g.start_ns > {start}::bigint - 60000000000
        AND (g.start_ns >= {start}::bigint OR g.end_ns - g.start_ns <= 60000000000)
    ORDER BY {order})
    UNION ALL
    (SELECT {columns}
    FROM segments g
    WHERE {lasting} AND g.start_ns < {start}::bigint AND (g.end_ns IS NULL OR g.end_ns - g.start_ns > 60000000000)
    ORDER BY {order})
) g
