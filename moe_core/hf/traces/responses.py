"""Responses: what vLLM and SGLang answer when they are asked for routed experts.

vLLM: `choices[].routed_experts`, beside `prompt_routed_experts` or with the prompt in front, as lists or as
.npy in base64 (v0.21; #39568). SGLang: int32 in base64 without a shape, of all decoder layers, under
`meta_info`. One response is one sequence; the last token that was written is never read, and has no choice.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.hf.traces.arrays import checked, loaded
from moe_core.hf.traces.shape import Known, Trace, columns, of_array

BYTES = 2**31
LINE = 2**28
_FIELD = "routed_experts"
_NUMPY = b"\x93NUMPY"


def read(path: Path, known: Known, what: str) -> Trace:
    """One response, or a list of them."""
    found = inputs.parse(inputs.read(path, what, BYTES), what)
    return _trace(iter(found if isinstance(found, list) else [found]), known, what)


def lines(path: Path, known: Known, what: str) -> Trace:
    """A response a line; read line by line."""
    return _trace((value for _, value in objects(path, what)), known, what)


def objects(path: Path, what: str) -> Iterator[tuple[str, Any]]:
    """(where it stands, its value) of every line of a file."""
    try:
        with inputs.opened(path) as file:
            number = 0
            while line := file.readline(LINE + 1):
                number += 1
                if len(line) > LINE:
                    raise ConfigError(f"{what}, line {number:,}: has more than {LINE:,} bytes")
                if line.strip():
                    yield f"{what}, line {number:,}", inputs.parse(line, f"{what}, line {number:,}")
    except OSError as error:
        raise ConfigError(f"{what}: cannot be read ({error.strerror})") from error


def _trace(found: Iterator[Any], known: Known, what: str) -> Trace:
    """The first response says what there is to say; the others must be alike."""
    first = next(found, None)
    if first is None:
        raise ConfigError(f"{what}: is empty")
    ids_TLK = choices(first, known, what)
    here = columns(ids_TLK, known, what)
    note = f"{here.note}, {ids_TLK.shape[2]} experts a token"
    fixed = known._replace(layers=here.layers, decoder=ids_TLK.shape[1], top_k=ids_TLK.shape[2])
    return Trace("responses", (note,), _batches(chain([first], found), fixed, what))


def _batches(found: Iterator[Any], known: Known, what: str) -> Iterator[pa.RecordBatch]:
    for sequence, response in enumerate(found):
        where = f"{what}, response {sequence}"
        ids_TLK = choices(response, known, where)
        here = columns(ids_TLK, known, where)
        yield from of_array(
            ids_TLK, here, known, where, sequence=sequence, token_ids_T=_tokens(response, len(ids_TLK))
        )


def choices(response: Any, known: Known, what: str) -> np.ndarray:
    """[tokens, layers, k] of one response: the prompt's, then those of the tokens that were written."""
    if not isinstance(response, dict):
        raise ConfigError(f"{what}: must be the object that a server answered with")
    answers = response.get("choices") or [{}]
    if not isinstance(answers, list) or not isinstance(answers[0], dict) or len(answers) > 1:
        raise ConfigError(f"{what}: must have one choice (n = 1)")
    meta = response.get("meta_info")
    places = [answers[0], response, *([meta] if isinstance(meta, dict) else [])]
    written = next((place[_FIELD] for place in places if place.get(_FIELD) is not None), None)
    prompt = response.get(f"prompt_{_FIELD}") or answers[0].get(f"prompt_{_FIELD}")
    if written is None and prompt is None:
        raise ConfigError(f"{what}: has no {_FIELD}; the server must be asked for them")
    parts = [_array(part, known, what) for part in (prompt, written) if part is not None]
    if len({part.shape[1:] for part in parts}) > 1:
        raise ConfigError(f"{what}: prompt and answer have other layers or experts a token")
    return np.concatenate(parts)


def _array(part: Any, known: Known, what: str) -> np.ndarray:
    if isinstance(part, str):
        try:
            data = base64.b64decode(part, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ConfigError(f"{what}: {_FIELD} is no base64 ({error})") from error
        return loaded(data, what) if data.startswith(_NUMPY) else _bare(data, known, what)
    try:
        return checked(np.array(part), what)
    except ValueError as error:
        raise ConfigError(f"{what}: {_FIELD} must be lists of one length") from error


def _bare(data: bytes, known: Known, what: str) -> np.ndarray:
    """int32 without a shape: how many layers and experts a token must be known."""
    if known.decoder is None or known.top_k is None:
        raise ConfigError(f"{what}: says no shape: say how many decoder layers and experts a token there are")
    each = 4 * known.decoder * known.top_k
    if not data or len(data) % each:
        raise ConfigError(
            f"{what}: {len(data):,} bytes are no whole number of tokens with {known.decoder} layers and "
            f"{known.top_k} experts each"
        )
    return np.frombuffer(data, dtype="<i4").reshape(-1, known.decoder, known.top_k)


def _tokens(response: dict[str, Any], rows: int) -> np.ndarray | None:
    """Token ids, where the response gives as many as choices, or one more."""
    answers = response.get("choices") or [{}]
    found: list[Any] = []
    for place, field in ((response, "prompt_token_ids"), (answers[0], "token_ids"), (response, "output_ids")):
        found += place.get(field) or []
    if len(found) not in (rows, rows + 1) or not all(isinstance(one, int) for one in found):
        return None
    return np.array(found[:rows], dtype=np.int32)
