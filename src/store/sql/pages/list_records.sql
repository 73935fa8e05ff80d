-- list_records: the ids of records of a collection along one index, those that match a filter; and the last row that was looked at where that
-- is as many as may be, whether it matches or not. What stands in braces is put together from the query, with every value bound.
SELECT r.record_id, r.create_time, r.update_time, r.matches, r.place = {most} AS is_last
FROM (
    SELECT r.*, row_number() OVER () AS place, ({filter}) IS TRUE AS matches
    FROM (SELECT * FROM records r WHERE {range} ORDER BY {order} LIMIT {most}) r
) r
WHERE r.matches OR r.place = {most}
LIMIT {limit}
