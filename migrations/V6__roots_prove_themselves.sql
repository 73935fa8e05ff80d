-- V6: an update of a root may prove by itself that the root still is what the decision stood on; if one of them is not, nothing of the
-- group is written.

-- The commit statement ends with this where its updates are their own proof. The code is that of a serialization failure: somebody else
-- was faster, and it is worth deciding again.
CREATE FUNCTION insist(holds boolean) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION 'a root is not what the decision stood on' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION insist IS 'undoes the statement unless what it is given holds';

-- Checking that JSON is JSON was a tenth of what an update of a record costs the database, and only the server ever writes there.
ALTER TABLE records ALTER COLUMN fields TYPE text;
COMMENT ON COLUMN records.fields IS
    'JSON text: field → [version at which it last changed, value]; only [version] where the value is in record_values. Text, so that numbers stay as they were written, and is not checked with each update';
