-- forget_requests: deletes remembered requests older than 24 hours, in the pages from $1 to before $2 of the table.
DELETE FROM requests r
WHERE r.ctid >= format('(%s,0)', $1::int8)::tid AND r.ctid < format('(%s,0)', $2::int8)::tid
    AND r.create_time < now() - interval '24 hours'
RETURNING 1
