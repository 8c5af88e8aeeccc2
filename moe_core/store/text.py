"""Text: the tokens of a run beside the experts that served them: bytes, or those of a tokenizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moe_core.store.db import Store
from moe_core.store.ingest import decided
from moe_core.store.queries import for_run


def raster(store: Store, run_id: str, layer: int, first: int = 0, count: int = 256) -> pd.DataFrame:
    """token, slot, expert, weight of the tokens first <= token < first + count in one layer."""
    sql = """
        SELECT token, slot, expert, weight FROM decisions
        WHERE run = $run AND layer = $layer AND token >= $first AND token < $last
        ORDER BY token, slot"""
    return decided(store, sql, run_id, layer=layer, first=first, last=first + count)


def text(store: Store, run_id: str, layer: int, first: int = 0, count: int = 256) -> pd.DataFrame:
    """token, sequence, position, byte, token_id, word, domain, expert, weight: each token's first choice.

    expert and weight are missing where no expert took the token; byte, or token_id and its string `word`,
    where the run does not say which token it is.
    """
    sql = """
        SELECT token, sequence, position, byte, token_id, text AS word, domain, expert, weight
        FROM tokens LEFT JOIN (SELECT token_id, text FROM vocabulary WHERE run = $run) USING (token_id)
        LEFT JOIN (
            SELECT token, expert, weight FROM decisions
            WHERE run = $run AND layer = $layer AND slot = 0 AND token >= $first AND token < $last)
            USING (token)
        WHERE run = $run AND token >= $first AND token < $last ORDER BY token"""
    return decided(store, sql, run_id, layer=layer, first=first, last=first + count)


def sequences(store: Store, run_id: str) -> pd.DataFrame:
    """sequence, domain, first (token), tokens: what there is to read."""
    sql = """
        SELECT sequence, any_value(domain) AS domain, min(token) AS first, count(*) AS tokens
        FROM tokens WHERE run = $run GROUP BY sequence ORDER BY sequence"""
    return for_run(store, sql, run_id)


def snippets(
    store: Store, run_id: str, layer: int, expert: int, limit: int = 20, context: int = 24
) -> pd.DataFrame:
    """domain, sequence, position, length (tokens), weight (mean), before, text, after.

    A fair sample of the tokens that went to this expert, shown as the unbroken spans they lie in: a
    span's chance grows with its length. Deterministic. Half a character shows as U+FFFD.
    """
    sql = """
        WITH hits AS (
            SELECT sequence, position, domain, weight,
                position - row_number() OVER (PARTITION BY sequence ORDER BY position) AS island
            FROM decisions JOIN tokens USING (run, token)
            WHERE run = $run AND layer = $layer AND expert = $expert),
        parts AS (  -- a byte, or the bytes of a token's string
            SELECT sequence, position, CASE WHEN byte IS NULL THEN encode(coalesce(text, ''))
                ELSE unhex(printf('%02x', byte)) END AS part
            FROM tokens LEFT JOIN (SELECT token_id, text FROM vocabulary WHERE run = $run) USING (token_id)
            WHERE run = $run),
        spans AS (
            SELECT any_value(domain) AS domain, sequence, min(position) AS position, count(*) AS length,
                avg(weight) AS weight
            FROM hits GROUP BY sequence, island),
        sampled AS (  -- weighted sampling without replacement: Efraimidis and Spirakis 2006
            SELECT * FROM spans
            ORDER BY -ln((hash(sequence, position) % 1000003 + 1) / 1000004) / length LIMIT $limit)
        SELECT s.domain, s.sequence, s.position, s.length, s.weight,
            list(part ORDER BY t.position) FILTER (t.position < s.position) AS before,
            list(part ORDER BY t.position)
                FILTER (t.position >= s.position AND t.position < s.position + s.length) AS text,
            list(part ORDER BY t.position) FILTER (t.position >= s.position + s.length) AS after
        FROM sampled AS s JOIN parts AS t ON t.sequence = s.sequence
            AND t.position BETWEEN s.position - $context AND s.position + s.length - 1 + $context
        GROUP BY s.domain, s.sequence, s.position, s.length, s.weight
        ORDER BY s.sequence, s.position"""
    frame = decided(store, sql, run_id, layer=layer, expert=expert, limit=limit, context=context)
    for column, errors in (("before", "ignore"), ("text", "replace"), ("after", "ignore")):
        frame[column] = pd.Series([_decode(value, errors) for value in frame[column]], dtype="str")
    return frame


def _decode(data: Any, errors: str) -> str:
    """UTF-8 out of parts; the database gives a missing value for no part."""
    return b"".join(map(bytes, data)).decode(errors=errors) if isinstance(data, np.ndarray) else ""
