-- V14: a job of few stages is one row, which holds its stages, what was submitted of them, and its documents. Larger jobs have a row for each stage,
-- as have the jobs that are there already, whatever their size: nothing is moved, so this takes no time.

ALTER TABLE jobs
    ADD COLUMN specs     text,
    ADD COLUMN stages    text,
    ADD COLUMN payload   text,
    ADD COLUMN result    text,
    ADD COLUMN inputs    text,
    ADD COLUMN artifacts text;
ALTER TABLE jobs ALTER COLUMN stages SET STORAGE MAIN;
-- So that a page has room for another version of each of its jobs, and a lease is an update in place.
ALTER TABLE jobs SET (fillfactor = 45);
COMMENT ON COLUMN jobs.stages IS
    'JSON text: where its stages stand, in their order; see the columns of stages. Null: they have rows in stages, stage_specs and stage_artifacts, and the job one in job_documents';
COMMENT ON COLUMN jobs.specs IS 'JSON text: what was submitted of its stages, in their order; see the columns of stage_specs';
COMMENT ON COLUMN jobs.payload IS 'JSON text: the caller''s own object';
COMMENT ON COLUMN jobs.result IS 'JSON text: the caller''s own object';
COMMENT ON COLUMN jobs.inputs IS 'JSON text: stage number → input; null: none';
COMMENT ON COLUMN jobs.artifacts IS 'JSON text: stage number → artifacts; null: none';

CREATE FUNCTION merged_documents(stored text, changed text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (SELECT json_object_agg(d.key, d.value) FROM (
        SELECT c.key, c.value FROM json_each(changed::json) c
        UNION ALL
        SELECT s.key, s.value FROM json_each(stored::json) s
        WHERE NOT EXISTS (SELECT FROM json_each(changed::json) c WHERE c.key = s.key)
    ) d);
END
$$;
COMMENT ON FUNCTION merged_documents IS 'two JSON objects as one; where both have a key, the changed one stands. Values stay as they were written';

ALTER TABLE servers ADD COLUMN reads_small_jobs boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN servers.reads_small_jobs IS
    'whether it knows jobs in one row; as long as one server does not, new jobs get rows for their stages, so that servers can be replaced one after the other';
