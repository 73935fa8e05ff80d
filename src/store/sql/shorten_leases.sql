-- shorten_leases: leases that end further ahead than they last, since the clock stepped back; from now on they last as long as one that
-- is renewed now. As a renewal it is no part of any revision. Reads all leases, so it is asked only after a step was seen.
UPDATE leases l
SET expires_at = clock_timestamp() + l.duration_us * interval '1 microsecond',
    check_at = clock_timestamp() + l.duration_us * interval '1 microsecond'
WHERE l.ctid = ANY (ARRAY (
    SELECT s.ctid
    FROM leases s
    WHERE s.expires_at > now() + s.duration_us * interval '1 microsecond' + interval '5 seconds'
    LIMIT $1
    FOR UPDATE SKIP LOCKED
))
RETURNING 1
