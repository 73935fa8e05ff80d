-- V5: permits. A resource is the root of its live permits and of those who wait for one; both are written only together with a proof
-- of the root's version. However many ask for a resource, its row is written once per group.

CREATE TABLE resources (
    namespace_id  integer NOT NULL,
    resource_uid  uuid NOT NULL,
    name          text COLLATE "C" NOT NULL,
    version       bigint NOT NULL,
    policy        json,
    state         json NOT NULL,
    fencing_token bigint NOT NULL,
    wakes_at      timestamptz,
    create_time   timestamptz NOT NULL,
    update_time   timestamptz NOT NULL,
    PRIMARY KEY (namespace_id, resource_uid),
    CONSTRAINT resources_version CHECK (version > 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_vacuum_cost_delay = 0);
COMMENT ON COLUMN resources.resource_uid IS 'follows from the name: a hash of it';
COMMENT ON COLUMN resources.version IS 'grows by exactly one per committed change; renewals of permits are none';
COMMENT ON COLUMN resources.policy IS 'what is allowed at once and over time; null: a lock';
COMMENT ON COLUMN resources.state IS 'where the policy stands: tokens, breaker, learned limit; and whether stages wait';
COMMENT ON COLUMN resources.fencing_token IS 'the newest granted; never decreases';
COMMENT ON COLUMN resources.wakes_at IS
    'when something happens by itself that somebody waits for, rounded up to whole seconds so that it seldom changes; a net below the servers'' own alarms';
-- Begins with an expression for the same reason as jobs_by_creation.
CREATE INDEX resources_by_name ON resources ((namespace_id + 0), name);
CREATE INDEX resources_to_wake ON resources (wakes_at) WHERE wakes_at IS NOT NULL;

CREATE TABLE permits (
    namespace_id integer NOT NULL,
    resource_uid uuid NOT NULL,
    permit_id    uuid NOT NULL,
    expires_at   timestamptz,
    permit       json NOT NULL,
    PRIMARY KEY (namespace_id, resource_uid, permit_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE permits IS
    'live permits, and for ten minutes those that were lost; a renewal changes expires_at alone and no version. No index on expires_at: renewals stay in place';
COMMENT ON COLUMN permits.permit_id IS 'the secret part of the permit''s token; the same in all resources of one permit';
COMMENT ON COLUMN permits.expires_at IS 'null: it lasts as long as the lease it is bound to, or is lost already';

CREATE TABLE permit_waiters (
    namespace_id integer NOT NULL,
    resource_uid uuid NOT NULL,
    permit_id    uuid NOT NULL,
    waiter       json NOT NULL,
    PRIMARY KEY (namespace_id, resource_uid, permit_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE permit_waiters IS 'who waits in the line of a resource; the waiter''s own server answers it';

CREATE TABLE servers (
    server_id   uuid PRIMARY KEY,
    alive_until timestamptz NOT NULL
);
COMMENT ON TABLE servers IS 'servers that are there: the waiters of one that is not are passed over';

ALTER TABLE stages ADD COLUMN permits json;
COMMENT ON COLUMN stages.permits IS 'the permits that the running attempt holds; they end with it';

ALTER TABLE ready_stages ADD COLUMN blocked_on uuid, ADD COLUMN blocked_until timestamptz;
COMMENT ON COLUMN ready_stages.blocked_on IS 'the resource whose permit it waits for; such a stage is not picked. It is no part of any revision';
COMMENT ON COLUMN ready_stages.blocked_until IS 'when it is tried again even if nobody has woken it';
DROP INDEX ready_stages_pick;
CREATE INDEX ready_stages_pick ON ready_stages (queue, namespace_id, priority DESC, ready_at, job_uid, stage_no)
    WHERE blocked_on IS NULL;
CREATE INDEX ready_stages_blocked ON ready_stages (blocked_on, namespace_id, priority DESC, ready_at, job_uid, stage_no)
    WHERE blocked_on IS NOT NULL;
CREATE INDEX ready_stages_forgotten ON ready_stages (blocked_until) WHERE blocked_on IS NOT NULL;
