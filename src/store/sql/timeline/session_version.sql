-- session_version: the version of a session. No row: it does not exist, or is being deleted.
SELECT version FROM sessions WHERE namespace_id = $1 AND session_uid = $2 AND state <> 3
