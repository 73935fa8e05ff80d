-- free_turn: gives one's own turn up.
DELETE FROM turns WHERE role = $1 AND server = $2
