"""Arrays: expert ids as one numpy array [tokens, layers, k], as vLLM gave them first (vllm #28284)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.hf.traces.shape import Known, Trace, columns, of_array

BYTES = 2**33


def read(path: Path, known: Known, what: str) -> Trace:
    """One sequence. Nothing is unpickled."""
    ids_TLK = loaded(inputs.read(path, what, BYTES), what)
    here = columns(ids_TLK, known, what)
    note = f"one sequence of {len(ids_TLK):,} tokens, {here.note}, {ids_TLK.shape[2]} experts a token"
    return Trace("numpy", (note,), of_array(ids_TLK, here, known, what))


def loaded(data: bytes, what: str) -> np.ndarray:
    """The array of an .npy file. Raises ConfigError unless it is of whole numbers, [tokens, layers, k]."""
    try:
        found = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ConfigError(f"{what}: is no array of numpy ({error})") from error
    return checked(found, what)


def checked(found: np.ndarray, what: str) -> np.ndarray:
    """The same array, if it can be expert ids."""
    if not isinstance(found, np.ndarray) or found.ndim != 3 or not np.issubdtype(found.dtype, np.integer):
        raise ConfigError(f"{what}: must be whole numbers, [tokens, layers, experts a token]")
    return found
