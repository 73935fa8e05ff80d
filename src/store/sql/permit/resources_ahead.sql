-- resources_ahead: resources that were changed later than now, because the clock stepped back since, in the pages from $2 to before $3 of the
-- table.
SELECT r.namespace_id, r.resource_uid
FROM resources r
WHERE r.ctid >= format('(%s,0)', $2::int8)::tid AND r.ctid < format('(%s,0)', $3::int8)::tid
    AND r.update_time > now() + interval '5 seconds'
LIMIT $1
