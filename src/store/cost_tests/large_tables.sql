INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, end_time,
    expire_time, wakes_at, retention_us)
SELECT 1, ('00000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 'job-' || i, 'video', 5, 1, CASE WHEN i % 1000 > 0 THEN 5 ELSE 2 END, i % 3 - 1, 1,
    now() - i * interval '1 second', CASE WHEN i % 1000 > 0 THEN now() END, now() + interval '1 day', now() + interval '1 day', 0
FROM generate_series(1, 60000) i;
INSERT INTO job_documents SELECT namespace_id, job_uid, '{}', '{}' FROM jobs;
INSERT INTO jobs (namespace_id, job_uid, job_id, kind, revision, run, state, priority, progress, create_time, end_time,
    expire_time, wakes_at, retention_us, specs, stages, payload, inputs, artifacts)
SELECT 1, ('50000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 'small-' || i, 'video', 5, 1, 5, 0, 1,
    now() - i * interval '1 second', now(), now() + interval '1 day', now() + interval '1 day', 0,
    '[{"depends_on":[0]}]', '[{"state":5}]', '{}', '{"0":{}}', '{"0":{}}'
FROM generate_series(1, 60000) i;
INSERT INTO stages (namespace_id, job_uid, stage_no, version, changed_revision, state, attempt, fencing_token, progress, wakes_at)
SELECT namespace_id, job_uid, no, 5, 5, 5, 1, 1, 1, now() + interval '1 day' FROM job_documents, generate_series(0, 1) no;
INSERT INTO stage_specs (namespace_id, job_uid, stage_no, spec, depends_on)
SELECT namespace_id, job_uid, stage_no, '{}', '[0]' FROM stages;
INSERT INTO stage_artifacts SELECT namespace_id, job_uid, stage_no, '{}' FROM stages;
INSERT INTO ready_stages (namespace_id, job_uid, stage_no, queue, priority, ready_at, group_key, alone, resource_uid, blocked_on)
SELECT 1, ('10000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 0,
    CASE WHEN i % 2 = 0 THEN 'bulk' ELSE 'q' || i END, 0, now(), 'g' || i % 20000, false,
    resource, CASE WHEN i % 3 = 0 THEN resource END
FROM generate_series(1, 60000) i, LATERAL (
    SELECT ('40000000-0000-8000-8000-' || lpad(CASE WHEN i % 9 = 0 THEN i ELSE 1 END::text, 12, '0'))::uuid AS resource
    WHERE i % 3 = 0 OR i % 5 = 0 UNION ALL SELECT NULL WHERE i % 3 > 0 AND i % 5 > 0
) r;
INSERT INTO leases SELECT 1, ('30000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 0, gen_random_uuid(), 'w', 1000000,
    now() + interval '1 hour', now() + interval '1 hour', 1
FROM generate_series(1, 40000) i;
INSERT INTO records SELECT 1, 'c', 'r' || i, 1, '{"a":[1,1]}', 0, now(), now() FROM generate_series(1, 60000) i;
INSERT INTO resources
SELECT 1, ('40000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 'lock-' || i, 1, NULL, '{}', 1,
    now() + interval '1 day', now(), now() - (i % 2) * interval '2 days'
FROM generate_series(1, 40000) i;
INSERT INTO permits SELECT namespace_id, resource_uid, gen_random_uuid(), now() + interval '1 hour', '{}' FROM resources;
INSERT INTO permit_waiters SELECT namespace_id, resource_uid, gen_random_uuid(), '{}' FROM resources;
INSERT INTO sessions
SELECT 1, ('60000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 'session-' || i, NULL, NULL, CASE WHEN i = 8 THEN 3 ELSE 1 + i % 2 END,
    5, 1, 1, 0, now() - i * interval '1 second', now(), CASE WHEN i % 2 = 1 THEN now() END, CASE WHEN i % 2 = 1 THEN now() + interval '1 day' END
FROM generate_series(1, 30000) i;
INSERT INTO segments (namespace_id, session_uid, key, arrival, version, kind, status, sequence, create_time, update_time)
SELECT namespace_id, session_uid, 's' || i, i, i, 2, 2, 0, now(), now()
FROM sessions, generate_series(1, CASE WHEN session_id = 'session-7' THEN 30000 WHEN session_id = 'session-8' THEN 3000 ELSE 1 END) i;
INSERT INTO requests SELECT 1, gen_random_uuid(), gen_random_uuid(), '', 0, 1, true, now() FROM generate_series(1, 60000) i;
INSERT INTO write_groups SELECT gen_random_uuid(), '{}', now(), (i::text)::xid8, '\x00' FROM generate_series(1, 60000) i;
INSERT INTO job_events (namespace_id, job_uid, revision, event_time, run, kind, job_state, stages)
SELECT namespace_id, job_uid, no, now(), 1, 1, 1, '[]' FROM jobs, generate_series(1, 2) no;
INSERT INTO namespaces (name) SELECT 'n' || i FROM generate_series(1, 5000) i;
INSERT INTO audit_events (event_time, principal, method, target, details)
SELECT now() - i * interval '1 minute', 'key:' || i % 100, 'CreateNamespace', 'n' || i, '{}' FROM generate_series(1, 60000) i;
INSERT INTO api_keys (key_id, version, changed_version, secret_hash, label, roles, namespaces, rates, create_time, last_use_time)
SELECT lpad(i::text, 8, 'k'), 1, i, sha256(i::text::bytea), '', '[]', '[]', '[]', now(), now() FROM generate_series(1, 5000) i;
UPDATE key_ring SET version = 5000;
INSERT INTO sessions (namespace_id, session_uid, session_id, labels, state, version, segment_count, arrivals, retention_us, create_time,
    update_time)
SELECT 1, ('61000000-0000-8000-8000-' || lpad(i::text, 12, '0'))::uuid, 's' || i, '{"team":"acme"}', 1, 5, 1, 1, 0,
    now() - i * interval '1 second', now()
FROM generate_series(1, 20000) i;
INSERT INTO segments (namespace_id, session_uid, key, arrival, version, kind, status, sequence, start_ns, end_ns, speaker, language, text,
    create_time, update_time, search_config)
SELECT 1, ('61000000-0000-8000-8000-' || lpad(greatest(i - 40000, 1)::text, 12, '0'))::uuid, 'k' || i, i, i, 2, 2, 0,
    CASE WHEN i % 10 > 0 THEN i * 1000000000 END, CASE WHEN i % 1000 <> 1 THEN (i + CASE WHEN i % 1000 = 2 THEN 600 ELSE 5 END) * 1000000000 END,
    'Ann', 'en', 'common rare' || i, now(), now(), 'english'
FROM generate_series(1::bigint, 60000) i;
