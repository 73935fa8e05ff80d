-- expired_sessions: at most $1 sessions whose retention is over, or whose deletion has to be finished, with their state.
SELECT s.namespace_id, s.session_uid, s.state
FROM sessions s
WHERE s.expire_time <= now()
ORDER BY s.expire_time
LIMIT $1
