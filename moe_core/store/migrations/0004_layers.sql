-- One layer, timed over tokens (moe_core/labs/layer_sweep.py). `hit`: experts reached; NULL for dense networks.
CREATE TABLE layers (
    run     INTEGER NOT NULL,
    subject VARCHAR NOT NULL,
    series  VARCHAR NOT NULL,
    tokens  INTEGER NOT NULL,
    width   INTEGER NOT NULL,
    hit     DOUBLE,
    repeat  INTEGER NOT NULL,
    seconds DOUBLE NOT NULL
);
