-- acquire_leader_lease: acquires or renews the leader lease of a role for $3 seconds; no row while another server has it.
INSERT INTO turns AS t (role, server, until)
VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (role) DO UPDATE SET server = excluded.server, until = excluded.until
WHERE t.server = excluded.server OR t.until < clock_timestamp()
    -- A lease that lasts longer than it can: the clock stepped back.
    OR t.until > excluded.until + interval '5 seconds'
RETURNING 1
