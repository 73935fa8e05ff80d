-- V11: credentials (API keys and names of client certificates), and the log of what operators change.

-- The root of all credentials: one row, whose version every change of a credential raises by one. Whoever changes one holds its lock until the
-- commit, so versions become visible in their order, and "all that changed since version n" misses nothing.
CREATE TABLE key_ring (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    version       bigint NOT NULL,
    floor_version bigint NOT NULL
);
COMMENT ON COLUMN key_ring.floor_version IS 'the version at which keys were last deleted; whoever knows an older version reads all keys again';
INSERT INTO key_ring (version, floor_version) VALUES (1, 0);

CREATE TABLE api_keys (
    key_id           text COLLATE "C" PRIMARY KEY CHECK (key_id ~ '^[a-z0-9]{8}$'),
    version          bigint NOT NULL,
    changed_version  bigint NOT NULL,
    secret_hash      bytea CHECK (octet_length(secret_hash) = 32),
    previous_hash    bytea CHECK (octet_length(previous_hash) = 32),
    previous_until   timestamptz,
    certificate_name text,
    label            text NOT NULL,
    roles            json NOT NULL,
    namespaces       json NOT NULL,
    rates            json NOT NULL,
    create_time      timestamptz NOT NULL,
    expire_time      timestamptz,
    revoke_time      timestamptz,
    last_use_time    timestamptz,
    CHECK ((secret_hash IS NULL) <> (certificate_name IS NULL)),
    CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
);
CREATE UNIQUE INDEX api_keys_by_certificate ON api_keys (certificate_name) WHERE certificate_name IS NOT NULL AND revoke_time IS NULL;
CREATE INDEX api_keys_by_change ON api_keys (changed_version);
COMMENT ON TABLE api_keys IS 'credentials; of a secret only its SHA-256 is stored';
COMMENT ON COLUMN api_keys.changed_version IS 'the version of key_ring at the last change';
COMMENT ON COLUMN api_keys.previous_hash IS 'the secret before the last rotation, valid until previous_until';
COMMENT ON COLUMN api_keys.rates IS 'calls a second as [read, write, watch, essential]; null for the default of the server';
COMMENT ON COLUMN api_keys.last_use_time IS 'accurate to an hour, and no part of the version';

-- Written in the commit of what it tells of, and never changed.
CREATE TABLE audit_events (
    event_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_time  timestamptz NOT NULL,
    principal   text NOT NULL,
    method      text NOT NULL,
    namespace   text,
    target      text NOT NULL,
    details     json NOT NULL
);
CREATE INDEX audit_events_by_time ON audit_events (event_time, event_id);
COMMENT ON TABLE audit_events IS 'who changed what by the rpcs of operators';
COMMENT ON COLUMN audit_events.namespace IS 'the namespace that the change is in; null where it is in none';
