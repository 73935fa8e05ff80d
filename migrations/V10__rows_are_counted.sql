-- V10: the commit statement checks how many rows its writes changed before the commit, not after it.

-- The commit statement ends with this. A write that changes other rows than were meant is a fault of the server or of somebody who changed
-- rows by hand: the code is that of a data error, so that the group is split until the operation at fault is alone, and the others are applied.
CREATE FUNCTION assert_rows(written bigint, meant bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF written IS DISTINCT FROM meant THEN
        RAISE EXCEPTION 'the writes of the group changed other rows than were meant (sum % instead of %)', written, meant
            USING ERRCODE = 'data_exception';
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION assert_rows IS 'fails the statement unless its writes changed the rows that were meant; both are weighted sums of row counts';
