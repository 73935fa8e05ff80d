-- count_records: whether a collection has more records in a range of ids than may be sorted. What stands in braces is put together from the
-- query, with every value bound.
SELECT count(*) > {most} FROM (SELECT FROM records r WHERE {range} LIMIT {most} + 1) r
