"""Which tests may be skipped: only where a machine lacks what they need, so that none is skipped everywhere.

A reason begins with one of `MAY`. Any other skip, and one whose reason does not hold here, fails the run.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterable, Mapping

from moe_core import pressure

MAY: Mapping[str, Callable[[], bool]] = {
    "only Linux": lambda: sys.platform != "linux",
    "only glibc": lambda: platform.libc_ver()[0] != "glibc",
    "more than one core": lambda: pressure.cores() == 1,
}


def unfounded(skipped: Iterable[tuple[str, str]], may: Mapping[str, Callable[[], bool]] = MAY) -> list[str]:
    """One line for each skipped test, as (name, reason), that could have run here."""
    return [
        f"{name} was skipped, and could run here: {reason}"
        for name, reason in skipped
        if not any(reason.startswith(start) and holds() for start, holds in may.items())
    ]
