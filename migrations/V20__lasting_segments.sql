-- V20: a page of a timeline that has a start need not read the timeline from its beginning. Segments that last for a minute at most begin less than a
-- minute before the range; the others, and those whose end is not known, are few, and have an index of their own.

-- Begins with an expression of its own, so that without statistics no other index is taken for it.
CREATE INDEX segments_lasting ON segments ((namespace_id - 0), session_uid, start_ns, arrival)
    WHERE delete_time IS NULL AND start_ns IS NOT NULL AND (end_ns IS NULL OR end_ns - start_ns > 60000000000);
