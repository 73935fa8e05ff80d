-- free_ready: gives back reservations of this server that found no worker.
UPDATE ready_stages t
SET reserved_by = NULL, reserved_until = NULL
FROM unnest($1::int4[], $2::uuid[], $3::int4[]) AS v(namespace_id, job_uid, stage_no)
WHERE t.namespace_id = v.namespace_id AND t.job_uid = v.job_uid AND t.stage_no = v.stage_no AND t.reserved_by = $4
