-- query_timeline: segments of a session that match a query, in order; and the last segment that was read where as many were read as may be, whether it
-- matches or not. `found` is how many these are; fewer are returned once they have {bytes} bytes. What stands in braces is put together from the
-- query, with every value bound.
SELECT s.*
FROM (
    SELECT s.*, s.place = {most} AS is_last, count(*) OVER () AS found,
        sum(coalesce(octet_length(s.text), 0) + coalesce(octet_length(s.words), 0) + coalesce(octet_length(s.inline_data), 0)
            + coalesce(octet_length(s.metadata), 0)) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
    FROM (
        SELECT s.*
        FROM (
            SELECT {columns}, row_number() OVER () AS place, ({filter}) IS TRUE AS matches
            FROM (
                {source}
                ORDER BY {order} LIMIT {most}
            ) g
        ) s
        WHERE s.matches OR s.place = {most}
        LIMIT {limit}
    ) s
) s
WHERE s.bytes_before IS NULL OR s.bytes_before < {bytes}
