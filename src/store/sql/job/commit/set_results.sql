-- set_results: results of jobs; null when a new run begins.
INSERT INTO job_documents ({columns})
SELECT {values}
FROM {rows}
JOIN ok USING (c)
ON CONFLICT (namespace_id, job_uid) DO UPDATE SET result = excluded.result
RETURNING 1
