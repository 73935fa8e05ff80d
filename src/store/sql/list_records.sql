-- list_records: the ids of a page of the records of a collection. What follows is put together from the filter, with every value
-- bound.
SELECT r.record_id
FROM records r
WHERE r.namespace_id = $1 AND r.collection = $2