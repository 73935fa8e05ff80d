-- set_record_values: values of fields that are too large for the row of their record.
INSERT INTO record_values ({columns})
SELECT {values}
FROM {rows}
JOIN ok USING (c)
ON CONFLICT (namespace_id, collection, record_id, field) DO UPDATE SET value = excluded.value
RETURNING 1
