-- leave_servers: says that this server is no longer there.
DELETE FROM servers WHERE server_id = $1
