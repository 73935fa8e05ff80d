-- V8: a stage belongs to the stage that added it, which may add it again when it runs again. Stages from before belong to none.

ALTER TABLE stages ADD COLUMN parent_token bigint;
COMMENT ON COLUMN stages.parent_token IS
    'the fencing token of its parent in the attempt that last named the stage; 0: the plan of its parent does not have it, or not yet in this run; null: it has no parent';

ALTER TABLE stage_specs ADD COLUMN parent_no integer, ADD COLUMN required_by json, ADD COLUMN plan_digest uuid;
COMMENT ON COLUMN stage_specs.parent_no IS 'the stage that added it; null: it was submitted with the job';
COMMENT ON COLUMN stage_specs.required_by IS 'of a stage with a parent: the stages that wait for it because it said so; null: none';
COMMENT ON COLUMN stage_specs.plan_digest IS 'of a stage with a parent: of what it was added as, to recognise the same again';
COMMENT ON TABLE stage_specs IS
    'what was submitted of a stage; depends_on holds stage numbers and changes by required_by, all else only where its parent adds it again';
