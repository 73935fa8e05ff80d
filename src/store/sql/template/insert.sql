-- insert: new rows. A key that another server inserted since it was found absent rolls back the group.
INSERT INTO {table} ({columns})
SELECT {values}
FROM {rows}
JOIN ok USING (c)
RETURNING 1
