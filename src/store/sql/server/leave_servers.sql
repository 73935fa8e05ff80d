-- leave_servers: removes this server from those that are present.
DELETE FROM servers WHERE server_id = $1
