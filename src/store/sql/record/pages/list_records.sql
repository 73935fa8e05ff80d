-- list_records: the ids of records of a collection that match a filter, along one index; and the last record that was read where as many were
-- read as may be, whether it matches or not. What stands in braces is put together from the query, with every value bound.
SELECT r.record_id, r.create_time, r.update_time, r.matches, r.place = {most} AS is_last
FROM (
    SELECT r.*, row_number() OVER () AS place, ({filter}) IS TRUE AS matches
    FROM (SELECT * FROM records r WHERE {range} ORDER BY {order} LIMIT {most}) r
) r
WHERE r.matches OR r.place = {most}
LIMIT {limit}
