-- V2: which of several servers does the background work that concerns all.

-- Not logged: after a crash of the database somebody simply takes the turn again.
CREATE UNLOGGED TABLE turns (
    role   text PRIMARY KEY,
    server uuid NOT NULL,
    until  timestamptz NOT NULL
);
COMMENT ON TABLE turns IS 'who does the background work now; a turn that is over may be taken by any server';
COMMENT ON COLUMN turns.server IS 'a number that a server gives itself at its start';
