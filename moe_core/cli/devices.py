"""Devices on the command line: a listed one by name, or one's own from a small TOML."""

from __future__ import annotations

from pathlib import Path

from moe_core import hardware
from moe_core.errors import ConfigError

HELP = "A device of `hardware`, or a .toml of your own."
_MOST = 64_000  # bytes of a device's file


def named(name: str) -> str:
    """The device as everything else takes it: its name, or the line that says one's own whole."""
    return own(Path(name)).name if name.lower().endswith(".toml") else name


def own(path: Path) -> hardware.Hardware:
    """The device that a file describes. Raises ConfigError."""
    return hardware.from_toml(_text(path))


def _text(path: Path) -> str:
    where = " ".join(str(path).split())[:60]
    try:
        if not path.is_file() or path.stat().st_size > _MOST:
            raise ConfigError(f"hardware ({where}): must be a file that exists, at most {_MOST:,} bytes")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"hardware ({where}): cannot be read as text in UTF-8") from error
