-- list_resources: the keys of the resources of a namespace in the order of their names, behind one name and with a prefix.
SELECT r.resource_uid, r.name
FROM resources r
WHERE (r.namespace_id + 0) = $1 AND r.name > $2 AND r.name >= $3 AND ($4::text IS NULL OR r.name < $4)
ORDER BY r.name
LIMIT $5
