-- list_sessions: a page of sessions of one namespace, without their segments, and the last session that was read.
SELECT s.*, s.place = {most} AS is_last
FROM (
    SELECT s.*, row_number() OVER () AS place, ({filter}) IS TRUE AS matches
    FROM (SELECT * FROM sessions s WHERE {range} ORDER BY {order} LIMIT {most}) s
) s
WHERE s.matches OR s.place = {most}
LIMIT {limit}
