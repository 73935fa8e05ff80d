-- greet_servers: announces this server for the next 5 seconds and deletes servers that were last seen an hour ago. Returns the servers that
-- are present, when the statement began, and whether each knows jobs in one row.
WITH here AS (
    INSERT INTO servers (server_id, alive_until, reads_small_jobs) VALUES ($1, clock_timestamp() + interval '5 seconds', true)
    ON CONFLICT (server_id) DO UPDATE SET alive_until = excluded.alive_until
    RETURNING server_id
), gone AS (
    DELETE FROM servers WHERE alive_until < clock_timestamp() - interval '1 hour' AND server_id <> $1
)
SELECT server_id, now(), reads_small_jobs FROM servers
-- A row that lasts longer than it can: the clock stepped back. The servers that are present announce themselves again.
WHERE alive_until > clock_timestamp() AND alive_until <= clock_timestamp() + interval '10 seconds'
UNION SELECT server_id, now(), true FROM here
