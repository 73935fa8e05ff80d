-- forget_groups: deletes outcomes of groups that no lane asks for any more, in the pages from $1 to before $2 of the table.
DELETE FROM write_groups g
WHERE g.ctid >= format('(%s,0)', $1::int8)::tid AND g.ctid < format('(%s,0)', $2::int8)::tid
    AND g.commit_time < now() - interval '10 minutes'
RETURNING 1
