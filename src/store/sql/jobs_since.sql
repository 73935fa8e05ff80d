-- jobs_since: jobs of which history was written by transactions from $1 on. Only transactions below the oldest that still runs
-- are looked at, so that none is overlooked that commits later; the next look begins there. The index on xid is a range index
-- over the same expression.
WITH horizon AS MATERIALIZED (
    SELECT (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS xid
), written AS MATERIALIZED (
    SELECT e.namespace_id, e.job_uid, (e.xid::text)::bigint AS xid
    FROM job_events e, horizon h
    WHERE ((e.xid::text)::bigint) >= $1 AND ((e.xid::text)::bigint) < h.xid
    ORDER BY 3
    LIMIT $2
), upto AS MATERIALIZED (
    -- A page that is full ends inside of a transaction perhaps, which is then read again.
    SELECT CASE WHEN count(*) < $2 OR $2 = 0 THEN (SELECT xid FROM horizon) ELSE greatest(max(w.xid), $1 + 1) END AS xid FROM written w
)
SELECT u.xid, w.namespace_id, w.job_uid
FROM upto u LEFT JOIN (SELECT DISTINCT namespace_id, job_uid FROM written) w ON true
