-- take_turn: takes a turn that is free or over, or goes on with one's own; no row while it is another's.
INSERT INTO turns AS t (role, server, until)
VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (role) DO UPDATE SET server = excluded.server, until = excluded.until
WHERE t.server = excluded.server OR t.until < clock_timestamp()
    -- Longer than a turn lasts: the clock stepped back.
    OR t.until > excluded.until + interval '5 seconds'
RETURNING 1
