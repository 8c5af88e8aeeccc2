-- Runs of models that were served elsewhere (moe_core/runs/layout.py, schema 2).
ALTER TABLE decisions ALTER weight DROP NOT NULL;
ALTER TABLE tokens ALTER byte DROP NOT NULL;
ALTER TABLE tokens ADD COLUMN token_id INTEGER;
ALTER TABLE tokens ADD COLUMN generated BOOLEAN;
-- The part of a run's tokens that is here, with their decisions (once `held`); `counts` is always of all.
ALTER TABLE runs ADD COLUMN kept DOUBLE DEFAULT 1;
ALTER TABLE runs ADD COLUMN held BOOLEAN DEFAULT true;

CREATE TABLE banks (
    run     INTEGER NOT NULL,
    layer   SMALLINT NOT NULL,
    experts SMALLINT NOT NULL,
    zero    SMALLINT NOT NULL,
    shared  SMALLINT NOT NULL,
    top_k   SMALLINT NOT NULL
);

CREATE TABLE counts (
    run    INTEGER NOT NULL,
    layer  SMALLINT NOT NULL,
    domain VARCHAR NOT NULL,
    expert SMALLINT NOT NULL,
    pairs  BIGINT NOT NULL,
    weight DOUBLE
);

CREATE TABLE placements (
    run      INTEGER NOT NULL,
    layer    SMALLINT NOT NULL,
    physical SMALLINT NOT NULL,
    logical  SMALLINT NOT NULL
);

CREATE TABLE requests (
    run      INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    request  VARCHAR NOT NULL
);

CREATE TABLE vocabulary (
    run      INTEGER NOT NULL,
    token_id INTEGER NOT NULL,
    text     VARCHAR NOT NULL
);

INSERT INTO counts
SELECT run, layer, domain, expert, count(*), sum(weight) FROM decisions JOIN tokens USING (run, token) GROUP BY ALL;

INSERT INTO banks
SELECT DISTINCT run, layer, experts, 0, shared, top_k FROM counts JOIN runs USING (run);
