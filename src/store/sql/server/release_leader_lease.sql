-- release_leader_lease: releases the leader lease of a role if this server has it.
DELETE FROM turns WHERE role = $1 AND server = $2
