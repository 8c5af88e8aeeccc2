-- The tables of a bundle, column for column (moe_core/runs/layout.py), `run` first.
-- No indexes: rows arrive sorted by run, layer, token, slot, and block statistics do the skipping.
CREATE TABLE decisions (
    run    INTEGER NOT NULL,
    layer  SMALLINT NOT NULL,
    token  INTEGER NOT NULL,
    slot   SMALLINT NOT NULL,
    expert SMALLINT NOT NULL,
    weight FLOAT NOT NULL
);

CREATE TABLE tokens (
    run      INTEGER NOT NULL,
    token    INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    position INTEGER NOT NULL,
    byte     UTINYINT NOT NULL,
    domain   VARCHAR NOT NULL
);

CREATE TABLE probabilities (
    run         INTEGER NOT NULL,
    layer       SMALLINT NOT NULL,
    domain      VARCHAR NOT NULL,
    expert      SMALLINT NOT NULL,
    probability DOUBLE NOT NULL
);

CREATE TABLE timings (
    run       INTEGER NOT NULL,
    model     VARCHAR NOT NULL,
    phase     VARCHAR NOT NULL,
    component VARCHAR NOT NULL,
    repeat    INTEGER NOT NULL,
    seconds   DOUBLE NOT NULL
);

CREATE TABLE memory (
    run             INTEGER NOT NULL,
    model           VARCHAR NOT NULL,
    component       VARCHAR NOT NULL,
    predicted_bytes BIGINT NOT NULL,
    measured_bytes  BIGINT
);

CREATE TABLE quality (
    run           INTEGER NOT NULL,
    model         VARCHAR NOT NULL,
    top_k         SMALLINT NOT NULL,
    domain        VARCHAR NOT NULL,
    bits_per_byte DOUBLE NOT NULL,
    bytes         BIGINT NOT NULL
);
