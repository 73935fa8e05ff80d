-- jobs_since: jobs of which history was written by transactions from $1 on, with the newest revision written of each and whether
-- it was made then. Only transactions below the oldest that still runs are looked at, so that none is overlooked that commits
-- later; the next look begins there. The index on xid is a range index over the same expression; days that are long over are
-- not looked at.
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
