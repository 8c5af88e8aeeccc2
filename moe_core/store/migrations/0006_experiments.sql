-- What experiments that train measured, and how the load moved meanwhile (moe_core/labs/training).
CREATE TABLE series (
    run    INTEGER NOT NULL,
    arm    VARCHAR NOT NULL,
    seed   INTEGER NOT NULL,
    metric VARCHAR NOT NULL,
    axis   VARCHAR NOT NULL,
    x      DOUBLE NOT NULL,
    value  DOUBLE NOT NULL
);

CREATE TABLE loads (
    run    INTEGER NOT NULL,
    arm    VARCHAR NOT NULL,
    seed   INTEGER NOT NULL,
    step   INTEGER NOT NULL,
    layer  SMALLINT NOT NULL,
    expert SMALLINT NOT NULL,
    load   BIGINT NOT NULL
);
