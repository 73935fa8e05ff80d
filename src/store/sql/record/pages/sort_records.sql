-- sort_records: the ids of records of a collection that match a filter, in an order that no index has; used only where count_records found few
-- enough. What stands in braces is put together from the query, with every value bound.
SELECT r.record_id, r.create_time, r.update_time, true AS matches, false AS is_last
FROM (SELECT * FROM records r WHERE {range} ORDER BY r.record_id LIMIT {most}) r
WHERE {filter}
ORDER BY {order}
LIMIT {limit}
