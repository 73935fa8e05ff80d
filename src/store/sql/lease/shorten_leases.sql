-- shorten_leases: leases that end later than they possibly can, because the clock stepped back, in the pages from $2 to before $3 of the
-- table; from now on they end as if they were renewed now. Like a renewal it changes no revision.
UPDATE leases l
SET expires_at = clock_timestamp() + l.duration_us * interval '1 microsecond',
    check_at = clock_timestamp() + l.duration_us * interval '1 microsecond'
WHERE l.ctid = ANY (ARRAY (
    SELECT s.ctid
    FROM leases s
    WHERE s.ctid >= format('(%s,0)', $2::int8)::tid AND s.ctid < format('(%s,0)', $3::int8)::tid
        AND s.expires_at > now() + s.duration_us * interval '1 microsecond' + interval '5 seconds'
    LIMIT $1
    FOR UPDATE SKIP LOCKED
))
RETURNING 1
