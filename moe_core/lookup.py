"""Finding a record by a name a person typed: any case, with or without hyphens, dots, spaces."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

from moe_core.errors import ConfigError

T = TypeVar("T")


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """`name` reduced to what people agree on: lower case, letters, digits and the slash of an owner."""
    return re.sub(r"[^a-z0-9/]", "", name.lower())


def find(kind: str, name: str, table: Mapping[str, T], aliases: Iterable[tuple[str, T]] = ()) -> T:
    """The value of `table` called `name`. Raises ConfigError with close matches."""
    wanted = plain(name)
    exact = {plain(key): value for key, value in aliases} | {
        plain(key): value for key, value in table.items()
    }
    if wanted in exact:
        return exact[wanted]
    by_plain = {plain(key): key for key in table}
    starting = [key for short, key in by_plain.items() if wanted and short.startswith(wanted)]
    close = starting or [
        by_plain[key] for key in difflib.get_close_matches(wanted, by_plain, n=3, cutoff=0.5)
    ]
    hint = f"close matches: {', '.join(close[:4])}" if close else "none comes close"
    raise ConfigError(f"{kind} ({name[:60]}): is not known; {hint}")
