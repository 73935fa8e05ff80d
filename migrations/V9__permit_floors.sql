-- V9: deleting a namespace leaves nothing behind but the highest fencing token that was granted in it.

-- What deleted namespaces granted. One row for all of them: a namespace that is created starts above it, under whatever name.
CREATE TABLE global_floor (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    fencing_floor bigint NOT NULL
);
COMMENT ON COLUMN global_floor.fencing_floor IS 'the highest fencing token of any deleted namespace';

CREATE TABLE namespace_remains (
    namespace_id integer PRIMARY KEY,
    delete_time  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE namespace_remains IS
    'deleted namespaces with history and request ids that are being deleted in batches; a row stays for ten minutes at least';

-- Deletions before this version left idle locks and lost permits behind, and forgot their fencing tokens.
INSERT INTO global_floor (fencing_floor)
SELECT coalesce(max(r.fencing_token), 0)
FROM resources r
WHERE NOT EXISTS (SELECT FROM namespaces n WHERE n.namespace_id = r.namespace_id);
DELETE FROM permits p WHERE NOT EXISTS (SELECT FROM namespaces n WHERE n.namespace_id = p.namespace_id);
DELETE FROM permit_waiters w WHERE NOT EXISTS (SELECT FROM namespaces n WHERE n.namespace_id = w.namespace_id);
DELETE FROM resources r WHERE NOT EXISTS (SELECT FROM namespaces n WHERE n.namespace_id = r.namespace_id);
INSERT INTO namespace_remains (namespace_id)
SELECT id FROM generate_series(1, (SELECT coalesce(max(namespace_id), 0) FROM namespaces)) AS id
WHERE NOT EXISTS (SELECT FROM namespaces n WHERE n.namespace_id = id);

-- Both run in the statement that deletes the namespace, after it has locked the namespace's row, which excludes everybody who puts
-- something new into the namespace. Each query in them has a snapshot of its own, taken after that lock: what was put in
-- between the statement's snapshot and the lock is seen.
CREATE FUNCTION namespace_is_empty(id integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    all_of_them bigint;
    locked bigint;
BEGIN
    -- A lock that is there can be acquired without a look at the namespace. Whoever writes one has it locked, and then this fails.
    SELECT count(*) INTO locked
    FROM (SELECT FROM resources r WHERE r.namespace_id = id FOR UPDATE SKIP LOCKED) l;
    SELECT count(*) INTO all_of_them FROM resources r WHERE r.namespace_id = id;
    -- A permit whose time is up holds nothing, but its holder may be about to renew it: until the end of this, nobody can.
    PERFORM FROM permits p WHERE p.namespace_id = id FOR UPDATE;
    RETURN locked = all_of_them
        AND NOT EXISTS (SELECT FROM jobs j WHERE j.namespace_id = id)
        AND NOT EXISTS (SELECT FROM records r WHERE r.namespace_id = id)
        AND NOT EXISTS (SELECT FROM resources r WHERE r.namespace_id = id AND r.policy IS NOT NULL)
        AND NOT EXISTS (SELECT FROM permits p WHERE p.namespace_id = id AND p.permit ->> 'lost_at' IS NULL
            AND (p.expires_at IS NULL OR p.expires_at > clock_timestamp()))
        AND NOT EXISTS (SELECT FROM permit_waiters w WHERE w.namespace_id = id);
END
$$;
COMMENT ON FUNCTION namespace_is_empty IS 'whether a locked namespace holds nothing; its idle locks and permits whose time is up are locked then';

CREATE FUNCTION delete_namespace(id integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE global_floor g
    SET fencing_floor = greatest(g.fencing_floor,
        (SELECT n.fencing_floor FROM namespaces n WHERE n.namespace_id = id),
        (SELECT max(r.fencing_token) FROM resources r WHERE r.namespace_id = id));
    DELETE FROM permits p WHERE p.namespace_id = id;
    DELETE FROM resources r WHERE r.namespace_id = id;
    DELETE FROM namespaces n WHERE n.namespace_id = id;
    INSERT INTO namespace_remains (namespace_id) VALUES (id);
    RETURN true;
END
$$;
COMMENT ON FUNCTION delete_namespace IS 'deletes an empty namespace with its idle locks, and keeps its highest fencing token';
