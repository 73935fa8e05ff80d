-- jobs_since: jobs of which transactions from $1 on wrote history, at most $2 events: the newest revision of each and whether it was created
-- then. Only transactions below the oldest one that still runs are read, so that none is missed that commits later; the next read begins
-- there. The index on xid is a range index over the same expression; partitions of days long past are not read.
WITH horizon AS MATERIALIZED (
    SELECT (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS xid
), written AS MATERIALIZED (
    SELECT e.namespace_id, e.job_uid, e.revision
    FROM job_events e, horizon h
    WHERE ((e.xid::text)::bigint) >= $1 AND ((e.xid::text)::bigint) < h.xid AND e.event_time >= now() - interval '2 days'
    LIMIT $2
)
SELECT h.xid, (SELECT count(*) >= $2 AND $2 > 0 FROM written), w.namespace_id, w.job_uid, w.revision, w.is_new
FROM horizon h
LEFT JOIN (
    SELECT namespace_id, job_uid, max(revision) AS revision, bool_or(revision = 1) AS is_new
    FROM written
    GROUP BY namespace_id, job_uid
) w ON true
