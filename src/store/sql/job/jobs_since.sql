-- jobs_since: the history that groups of transactions from $1 on wrote, oldest first, with the sum of its bytes up to each group: at most $2 groups,
-- and those beyond $3 bytes without their history. Only transactions below the oldest that still runs are read, so none is missed that
-- commits later; the next read continues there.
WITH horizon AS MATERIALIZED (
    SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid
), written AS MATERIALIZED (
    SELECT g.history, sum(octet_length(g.history)) OVER (ORDER BY g.xid ROWS UNBOUNDED PRECEDING) AS bytes
    FROM write_groups g
    WHERE g.xid >= ($1::int8::text)::xid8 AND g.xid < (SELECT xid FROM horizon) AND g.history IS NOT NULL
    ORDER BY g.xid
    LIMIT $2
)
SELECT (h.xid::text)::int8, w.bytes, CASE WHEN w.bytes <= $3 THEN w.history END
FROM horizon h
LEFT JOIN written w ON true
