-- check_version: rows that a response which writes nothing was decided on, at the version that was read. No lock: it is enough that the response was
-- true at one instant.
SELECT v.c
FROM {rows}
JOIN {table} t ON {match}
