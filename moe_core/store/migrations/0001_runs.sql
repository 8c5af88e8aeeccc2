-- One row a run. `run` is the short key that the tables of 0002 repeat on every row.
CREATE SEQUENCE run_keys;

CREATE TABLE runs (
    run             INTEGER NOT NULL,
    run_id          VARCHAR NOT NULL,
    question_id     VARCHAR NOT NULL,
    reference       VARCHAR,            -- name of a shipped reference run; NULL for a run made here
    manifest_sha256 VARCHAR NOT NULL,
    lab             VARCHAR NOT NULL,
    model           VARCHAR NOT NULL,
    experts         INTEGER NOT NULL,
    top_k           INTEGER NOT NULL,
    shared          INTEGER NOT NULL,
    batch           INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    spec            JSON NOT NULL,
    created         TIMESTAMP NOT NULL, -- UTC
    duration_s      DOUBLE NOT NULL,
    device          VARCHAR NOT NULL,
    device_kind     VARCHAR NOT NULL,
    device_key      VARCHAR NOT NULL,
    code_version    VARCHAR NOT NULL,
    stages          JSON NOT NULL,
    provenance      JSON NOT NULL,
    architectures   JSON NOT NULL,
    summary         JSON NOT NULL
);
