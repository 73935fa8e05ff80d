-- check_absent: keys of which there is no row. Two commits that find the same key absent collide in the insert, which rolls back the whole group of
-- one of them.
SELECT v.c
FROM {rows}
WHERE NOT EXISTS (SELECT FROM {table} t WHERE {match})
