-- What people keep: scenarios and reviews. Every save is a new row; nothing is ever updated.
CREATE TABLE scenarios (
    scenario_id VARCHAR NOT NULL,
    version     INTEGER NOT NULL,
    created     TIMESTAMP NOT NULL, -- UTC
    author      VARCHAR NOT NULL,
    content     JSON NOT NULL,      -- moe_core/review.py, Case
    PRIMARY KEY (scenario_id, version)
);

CREATE TABLE reviews (
    review_id VARCHAR NOT NULL,
    version   INTEGER NOT NULL,
    created   TIMESTAMP NOT NULL,   -- UTC
    author    VARCHAR NOT NULL,
    content   JSON NOT NULL,        -- moe_core/review.py, Review
    PRIMARY KEY (review_id, version)
);

CREATE TABLE review_log (
    review_id VARCHAR NOT NULL,
    entry     INTEGER NOT NULL,
    version   INTEGER NOT NULL,     -- of the review the decision was taken on
    created   TIMESTAMP NOT NULL,   -- UTC
    who       VARCHAR NOT NULL,
    what      VARCHAR NOT NULL,
    why       VARCHAR NOT NULL,
    PRIMARY KEY (review_id, entry)
);
