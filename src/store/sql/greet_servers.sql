-- greet_servers: says that this server is there for a while, forgets those that are long gone, and tells who is there, the moment at which
-- the statement began, and whether they know jobs in one row.
WITH here AS (
    INSERT INTO servers (server_id, alive_until, reads_small_jobs) VALUES ($1, clock_timestamp() + interval '5 seconds', true)
    ON CONFLICT (server_id) DO UPDATE SET alive_until = excluded.alive_until
    RETURNING server_id
), gone AS (
    DELETE FROM servers WHERE alive_until < clock_timestamp() - interval '1 hour' AND server_id <> $1
)
SELECT server_id, now(), reads_small_jobs FROM servers
-- Longer than a greeting lasts: the clock stepped back, and those that are there greet again.
WHERE alive_until > clock_timestamp() AND alive_until <= clock_timestamp() + interval '10 seconds'
UNION SELECT server_id, now(), true FROM here
