-- postpone_leases: of leases of which the check is due since $4, moves the check of renewed ones to their end, and that of expired ones that
-- were granted or renewed before $2 by $3 seconds.
UPDATE leases l
SET check_at = CASE WHEN l.expires_at > now() THEN l.expires_at ELSE now() + $3::float8 * interval '1 second' END
WHERE l.ctid = ANY (ARRAY (
    SELECT s.ctid
    FROM leases s
    WHERE s.check_at >= coalesce($4::timestamptz, '-infinity') AND s.check_at <= now()
        AND (s.expires_at > now() OR s.expires_at - s.duration_us * interval '1 microsecond' < $2::timestamptz)
    ORDER BY s.check_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
))
RETURNING 1
