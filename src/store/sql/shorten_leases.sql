-- shorten_leases: leases that end further ahead than they last, since the clock stepped back; from now on they last as long as one that
-- is renewed now. As a renewal it is no part of any revision.
UPDATE leases l
SET expires_at = clock_timestamp() + l.duration_us * interval '1 microsecond'
FROM (
    SELECT s.namespace_id, s.job_uid, s.stage_no
    FROM leases s
    WHERE s.expires_at > clock_timestamp() + s.duration_us * interval '1 microsecond' + interval '5 seconds'
    LIMIT $1
    FOR UPDATE SKIP LOCKED
) s
WHERE l.namespace_id = s.namespace_id AND l.job_uid = s.job_uid AND l.stage_no = s.stage_no
RETURNING 1
