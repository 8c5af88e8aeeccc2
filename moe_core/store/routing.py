"""Routing: what the recorded decisions say, aggregated in the database. One pair is one row.

Legend: pairs = routed (token, expert) pairs; E experts; fair share = pairs of the layer / E.
Layers are those that have experts. Experts that received nothing are there, with zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from moe_core.errors import ConfigError
from moe_core.store.db import Store
from moe_core.store.ingest import decided
from moe_core.store.queries import for_run

# layer x expert with the zeros, whole or by domain; `load` is what most questions start from. Of all that was
# recorded, also where the table `decisions` holds a part; zero experts compute nothing and carry no load
_LOAD = """
    counted AS (
        SELECT layer, expert, sum(pairs)::BIGINT AS pairs FROM counts WHERE run = $run GROUP BY ALL),
    load AS (
        SELECT g.layer, g.expert, coalesce(pairs, 0) AS pairs,
            sum(coalesce(pairs, 0)) OVER w AS layer_pairs, count(*) OVER w AS experts
        FROM (SELECT layer, unnest(range(experts))::SMALLINT AS expert FROM banks
              WHERE run = $run AND layer IN (SELECT layer FROM counted)) AS g
        LEFT JOIN counted USING (layer, expert)
        WINDOW w AS (PARTITION BY layer))"""
_LOAD_BY_DOMAIN = """
    counted AS (SELECT layer, domain, expert, pairs FROM counts WHERE run = $run),
    load AS (
        SELECT g.layer, g.domain, g.expert, coalesce(pairs, 0) AS pairs,
            sum(coalesce(pairs, 0)) OVER w AS layer_pairs, count(*) OVER w AS experts
        FROM (SELECT layer, domain, unnest(range(experts))::SMALLINT AS expert
              FROM (SELECT DISTINCT layer, domain FROM counted)
              JOIN (SELECT layer, experts FROM banks WHERE run = $run) USING (layer)) AS g
        LEFT JOIN counted USING (layer, domain, expert)
        WINDOW w AS (PARTITION BY layer, domain))"""
# classes that a reader recognises: of a byte of UTF-8, or of a token by the first letter of its string
_KIND = """
    CASE WHEN letter IS NULL THEN 'unknown'
         WHEN letter >= 128 THEN 'non-ASCII'
         WHEN letter IN (10, 13) THEN 'newline'
         WHEN letter <= 32 THEN 'space'
         WHEN letter BETWEEN 48 AND 57 THEN 'digit'
         WHEN letter BETWEEN 65 AND 90 THEN 'capital'
         WHEN letter BETWEEN 97 AND 122 THEN 'letter'
         ELSE 'punctuation' END"""
_LETTERS = """
    SELECT token, coalesce(byte, unicode(coalesce(nullif(ltrim(text, ' '), ''), text))) AS letter
    FROM (SELECT * FROM tokens WHERE run = $run)
    LEFT JOIN (SELECT token_id, text FROM vocabulary WHERE run = $run) USING (token_id)"""
# the tokens that share a batch: which block they belong to, and their rank in it
Grouping = Literal["decode", "consecutive", "random"]
_PLACES = {
    "decode": "position AS block, row_number() OVER (PARTITION BY position ORDER BY sequence) - 1 AS rank",
    "consecutive": "0 AS block, row_number() OVER (ORDER BY token) - 1 AS rank",
    "random": "0 AS block, row_number() OVER (ORDER BY hash(token), token) - 1 AS rank",
}
POWERS = tuple(2**power for power in range(13))
_COUNTED = {
    "domain": "SELECT layer, expert, domain AS name, pairs FROM counts WHERE run = $run",
    "kind": f"""
        SELECT layer, expert, name, count(*) AS pairs
        FROM decisions JOIN (SELECT token, {_KIND} AS name FROM ({_LETTERS})) USING (token)
        WHERE run = $run GROUP BY ALL""",
}


def load(store: Store, run_id: str, by_domain: bool = False) -> pd.DataFrame:
    """layer, (domain,) expert, pairs, share (of the layer's pairs), ratio (share x E).

    ratio is 1.0 at fair share. By domain, share and ratio are within the domain's own pairs.
    """
    domain = "domain, " if by_domain else ""
    sql = f"""
        WITH {_LOAD_BY_DOMAIN if by_domain else _LOAD}
        SELECT layer, {domain}expert, pairs, pairs / layer_pairs AS share,
            pairs * experts / layer_pairs AS ratio
        FROM load ORDER BY ALL"""
    return for_run(store, sql, run_id)


def load_curve(store: Store, run_id: str) -> pd.DataFrame:
    """layer, rank (1 is the hottest), expert, share, ratio: the load sorted within each layer."""
    sql = f"""
        WITH {_LOAD}
        SELECT layer, row_number() OVER (PARTITION BY layer ORDER BY pairs DESC, expert) AS rank, expert,
            pairs / layer_pairs AS share, pairs * experts / layer_pairs AS ratio
        FROM load ORDER BY layer, rank"""
    return for_run(store, sql, run_id)


def balance(store: Store, run_id: str) -> pd.DataFrame:
    """Per layer: experts, pairs, cv, max_over_mean, entropy_bits, effective_share, dead, hottest.

    cv is the population standard deviation of the load over its mean. effective_share is
    exp(H) / E: the part of the experts that would carry this entropy evenly. dead: experts with no pair.
    """
    sql = f"""
        WITH {_LOAD}, shares AS (SELECT *, pairs / layer_pairs AS share FROM load),
        summed AS (
            SELECT layer, any_value(experts) AS experts, any_value(layer_pairs)::BIGINT AS pairs,
                stddev_pop(share) * any_value(experts) AS cv,
                max(share) * any_value(experts) AS max_over_mean,
                coalesce(-sum(share * log2(share)) FILTER (share > 0), 0) AS entropy_bits,
                count(*) FILTER (pairs = 0) AS dead, arg_max(expert, pairs) AS hottest
            FROM shares GROUP BY layer)
        SELECT layer, experts, pairs, cv, max_over_mean, entropy_bits,
            2 ** entropy_bits / experts AS effective_share, dead, hottest
        FROM summed ORDER BY layer"""
    return for_run(store, sql, run_id)


def probabilities(store: Store, run_id: str) -> pd.DataFrame:
    """layer, domain, expert, probability: what the router wanted, mean over the domain's tokens."""
    sql = "SELECT layer, domain, expert, probability FROM probabilities WHERE run = $run ORDER BY ALL"
    return for_run(store, sql, run_id)


def lift(store: Store, run_id: str, by: Literal["domain", "kind"] = "domain") -> pd.DataFrame:
    """layer, expert, name (domain or kind of character), pairs, lift = P(expert | name) / P(expert).

    2.0 means that the expert serves this text twice as often as text in general. Experts with no
    pair have no lift and are left out.
    """
    if by not in _COUNTED:
        raise ConfigError(f"by ({by}): must be one of {', '.join(_COUNTED)}")
    sql = f"""
        WITH counted AS ({_COUNTED[by]}),
        grid AS (
            SELECT layer, expert, name, coalesce(pairs, 0) AS pairs
            FROM (SELECT DISTINCT layer, expert FROM counted)
            CROSS JOIN (SELECT DISTINCT name FROM counted) LEFT JOIN counted USING (layer, expert, name))
        SELECT layer, expert, name, pairs,
            (pairs / sum(pairs) OVER (PARTITION BY layer, name))
            / (sum(pairs) OVER (PARTITION BY layer, expert) / sum(pairs) OVER (PARTITION BY layer)) AS lift
        FROM grid ORDER BY layer, expert, name"""
    return (for_run if by == "domain" else decided)(store, sql, run_id)


def flow(store: Store, run_id: str) -> pd.DataFrame:
    """layer, next_layer, source, target, tokens, share: first choices followed to the next layer.

    share is of the source expert's tokens: what a Sankey diagram draws.
    """
    sql = """
        WITH firsts AS (SELECT layer, token, expert FROM decisions WHERE run = $run AND slot = 0),
        steps AS (SELECT layer, lead(layer) OVER (ORDER BY layer) AS next_layer
                  FROM (SELECT DISTINCT layer FROM firsts)),
        counted AS (
            SELECT a.layer, next_layer, a.expert AS source, b.expert AS target, count(*) AS tokens
            FROM firsts AS a JOIN steps USING (layer)
            JOIN firsts AS b ON b.layer = next_layer AND b.token = a.token GROUP BY ALL)
        SELECT *, tokens / sum(tokens) OVER (PARTITION BY layer, source) AS share
        FROM counted ORDER BY layer, source, target"""
    return decided(store, sql, run_id)


def coactivation(store: Store, run_id: str, layer: int | None = None) -> pd.DataFrame:
    """layer, expert_a, expert_b, tokens, share, lift; one layer, or each of them.

    tokens that chose both; share = P(b | a); lift = P(a, b) / (P(a) P(b)), 1.0 when independent.
    The diagonal is the expert's own tokens. Experts without tokens are left out, pairs are not.
    """
    sql = """
        WITH chosen AS (
            SELECT layer, token, list(expert) AS experts FROM decisions
            WHERE run = $run AND ($layer IS NULL OR layer = $layer) GROUP BY layer, token),
        totals AS (SELECT layer, count(*) AS total FROM chosen GROUP BY layer),
        pairs AS (
            SELECT layer, expert_a, expert_b, count(*) AS tokens
            FROM (SELECT layer, expert_a, unnest(experts) AS expert_b
                  FROM (SELECT layer, experts, unnest(experts) AS expert_a FROM chosen)) GROUP BY ALL),
        own AS (SELECT layer, expert_a AS expert, tokens FROM pairs WHERE expert_a = expert_b)
        SELECT a.layer, a.expert AS expert_a, b.expert AS expert_b, coalesce(p.tokens, 0) AS tokens,
            coalesce(p.tokens, 0) / a.tokens AS share,
            coalesce(p.tokens, 0) / a.tokens * total / b.tokens AS lift
        FROM own AS a JOIN own AS b ON b.layer = a.layer JOIN totals ON totals.layer = a.layer
        LEFT JOIN pairs AS p
            ON p.layer = a.layer AND p.expert_a = a.expert AND p.expert_b = b.expert
        ORDER BY a.layer, a.expert, b.expert"""
    return decided(store, sql, run_id, layer=layer)


def distinct(
    store: Store, run_id: str, grouping: Grouping = "decode", sizes: Sequence[int] = POWERS
) -> pd.DataFrame:
    """layer, size, distinct, uniform: experts that a batch of `size` tokens touches, measured and even.

    grouping: "decode" takes one token per sequence at the same position, "consecutive" runs of
    text, "random" any tokens. distinct is the mean over all full groups; sizes without one are left
    out. uniform = E (1 - (1 - k/E)^size): every expert equally likely, tokens independent.
    """
    if grouping not in _PLACES:
        raise ConfigError(f"grouping ({grouping}): must be one of {', '.join(_PLACES)}")
    sql = f"""
        WITH sizes AS (SELECT unnest($sizes::INTEGER[]) AS size),
        placed AS (
            SELECT *, count(*) OVER (PARTITION BY block) AS members
            FROM (SELECT token, {_PLACES[grouping]} FROM tokens WHERE run = $run)),
        groups AS (
            SELECT size, sum(members // size)::BIGINT AS groups
            FROM (SELECT DISTINCT block, members FROM placed), sizes GROUP BY size HAVING groups > 0),
        masks AS (  -- the experts of a token as a set of bits, 64 a word
            SELECT layer, token, expert // 64 AS word, bit_or(1::UBIGINT << (expert % 64)) AS mask,
                count(*) AS pairs
            FROM decisions JOIN (SELECT layer, experts FROM banks WHERE run = $run) USING (layer)
            WHERE run = $run AND expert < experts GROUP BY ALL),
        even AS (
            SELECT layer, pairs / (SELECT count(*) FROM placed) AS k, experts AS e
            FROM (SELECT layer, sum(pairs) AS pairs FROM masks GROUP BY layer)
            JOIN (SELECT layer, experts FROM banks WHERE run = $run) USING (layer)),
        touched AS (
            SELECT layer, size, bit_count(bit_or(mask)) AS touched
            FROM masks JOIN placed USING (token) JOIN sizes ON rank < members // size * size
            GROUP BY layer, size, block, rank // size, word)
        SELECT layer, size, sum(touched) / any_value(groups) AS "distinct",
            any_value(e * (1 - (1 - k / e) ** size)) AS uniform
        FROM touched JOIN groups USING (size) JOIN even USING (layer)
        GROUP BY layer, size ORDER BY layer, size"""
    return decided(store, sql, run_id, sizes=list(sizes))
