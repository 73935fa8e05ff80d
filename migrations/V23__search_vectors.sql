-- V23: the server sends the vector of the search with most segments. It is no longer generated, which planned the 29 cases of segment_vector again for
-- each statement and parsed each text twice. A row that comes without a vector gets the same one from a trigger: where the server does not know all of
-- the words, and all rows of servers older than this, which send none.

-- The stored vectors stay as they are.
ALTER TABLE segments ALTER COLUMN search_vector DROP EXPRESSION;
COMMENT ON COLUMN segments.search_vector IS 'segment_vector(search_config, coalesce(search_text, text)), by the server or the triggers; null: search_config is null';

CREATE FUNCTION set_segment_vector() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.search_vector := segment_vector(NEW.search_config, coalesce(NEW.search_text, NEW.text));
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION set_segment_vector IS 'makes the vector of a segment that was written without one';
CREATE TRIGGER segments_inserted BEFORE INSERT ON segments FOR EACH ROW
    WHEN (NEW.search_config IS NOT NULL AND NEW.search_vector IS NULL)
    EXECUTE FUNCTION set_segment_vector();
-- An older server changes the text and leaves the vector of the text before.
CREATE TRIGGER segments_updated BEFORE UPDATE ON segments FOR EACH ROW
    WHEN ((NEW.search_config IS NOT NULL OR NEW.search_vector IS NOT NULL)
        AND (NEW.search_vector IS NULL OR NEW.search_vector = OLD.search_vector))
    EXECUTE FUNCTION set_segment_vector();
