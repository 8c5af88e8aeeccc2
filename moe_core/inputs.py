"""Inputs: every file, upload and paste that somebody hands over is read here.

A file is a regular one and is read up to a limit. Text is UTF-8. JSON is of a bearable depth, with numbers
that can be computed with. What is wrong is one sentence that begins with `what` it is.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlsplit

from moe_core.errors import ConfigError, short

DEPTH = 200  # of JSON; what reads it further on calls itself for each level
OBJECTS = 300_000  # lists and objects of JSON: three describe a tensor
DIGITS = 40  # of a whole number: more than any count, and its powers still are floats
LINK = 60_000  # characters
MEMBERS = 10_000  # files in a zip
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_HALF = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a limit
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(ValueError, KeyError, EOFError, OSError, RuntimeError),
)


class NotAFile(OSError):
    """A folder, a pipe, a device or a socket."""


class TooLarge(OSError):
    """More bytes than are read; `size` of them are known of."""

    def __init__(self, size: int) -> None:
        super().__init__(errno.EFBIG, f"it has {size:,} bytes")
        self.size = size


def named(field: str, path: Path | str) -> str:
    """`scenario (a.json)`: what a sentence about a file begins with; of a long name its end."""
    text = str(path)
    return f"{field} ({text if len(text) <= 120 else '...' + text[-117:]})"


def exists(path: Path) -> bool:
    """Whether there is something of that name; no name is too odd to ask."""
    try:
        os.stat(path)
    except (OSError, ValueError):
        return False
    return True


def is_folder(path: Path) -> bool:
    """The same of a folder."""
    return exists(path) and path.is_dir()


@contextmanager
def opened(path: Path | str) -> Iterator[BinaryIO]:
    """A regular file, open for reading. Raises OSError for anything else, and waits for nothing."""
    try:
        _regular(os.stat(path))  # before it is opened, which alone may set off a device
        handle = os.open(path, _FLAGS)
    except ValueError as error:  # a zero byte, half a character
        raise OSError(errno.EINVAL, "no file has such a name") from error
    except OSError as error:
        raise (NotAFile(*error.args) if error.errno == errno.ELOOP else error) from error
    with os.fdopen(handle, "rb") as file:
        _regular(os.fstat(handle))
        yield file


def _regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NotAFile(errno.EINVAL, "it is not a file")


def content(path: Path | str, most: int) -> bytes:
    """All bytes of a regular file. Raises OSError, TooLarge beyond `most`."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(max(size, 65_536) + 1) if size <= most else b""  # some files say that they are empty
    if max(size, len(data)) > most:
        raise TooLarge(max(size, len(data)))
    return data


def read(path: Path | str, what: str, most: int) -> bytes:
    """All bytes of a regular file. Raises ConfigError, one sentence."""
    try:
        return content(path, most)
    except TooLarge as error:
        raise ConfigError(f"{what} ({error.size:,} bytes): must have at most {most:,} bytes") from error
    except OSError as error:
        raise ConfigError(f"{what}: cannot be read ({error.strerror})") from error


def text(data: bytes, what: str) -> str:
    """Text in UTF-8, a byte order mark taken off. Raises ConfigError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what}: must be text in UTF-8; byte {error.start:,} is not UTF-8") from error


def parse(
    data: bytes | str,
    what: str,
    *,
    finite: bool = True,
    pairs: Callable[[list[tuple[str, Any]]], Any] = dict,
) -> Any:
    """The value of JSON text. Raises ConfigError, one sentence. `pairs` makes each object.

    Not `finite` lets numbers be infinite, as transformers writes them.
    """
    whole = text(data, what) if isinstance(data, bytes) else data.removeprefix("\ufeff")
    if whole.count("[") + whole.count("{") > OBJECTS:
        raise ConfigError(f"{what}: holds more than {OBJECTS:,} lists and objects")
    real = _finite if finite else float
    try:
        value = json.loads(
            whole, object_pairs_hook=pairs, parse_int=_whole, parse_float=real, parse_constant=real
        )
        if _HALF.search(whole):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ConfigError(f"{what}: is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what}: holds half a character") from error
    except ValueError as error:
        raise ConfigError(f"{what}: is not JSON ({error})") from error
    if _deep(value):
        raise ConfigError(f"{what}: is nested too deeply")
    return value


def _whole(digits: str) -> int:
    if (many := len(digits.removeprefix("-"))) > DIGITS:
        raise ValueError(f"a whole number has {many:,} digits, at most {DIGITS} are read")
    return int(digits)


def _finite(digits: str) -> float:
    """Also for NaN and Infinity, which are no JSON."""
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{short(digits)} is no finite number")
    return value


def _deep(value: Any) -> bool:
    """Whether it has more than `DEPTH` levels; counted level by level, not by calling itself."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(DEPTH):
        inside = (part.values() if isinstance(part, dict) else part for part in level)
        level = [one for part in inside for one in part if isinstance(one, dict | list)]
    return bool(level)


def query(link: str) -> dict[str, str]:
    """The parameters of a link, or of its query alone; the last of each name. Raises ConfigError."""
    if len(link) > LINK:
        raise ConfigError(f"link ({len(link):,} characters): must have at most {LINK:,}")
    try:
        asked = urlsplit(link.strip()).query if "?" in link else link.strip()
        return dict(parse_qsl(asked, keep_blank_values=True))
    except ValueError as error:
        raise ConfigError(f"link ({short(link)}): must be a link of this dashboard ({error})") from error


def member(data: bytes, names: Sequence[str], what: str, most: int) -> tuple[str, bytes] | None:
    """Name and bytes of the first of `names` that a zip holds; None where it has none. Raises ConfigError."""
    try:
        if data.count(b"PK\x01\x02") > MEMBERS:
            raise ValueError(f"it lists more than {MEMBERS:,} files")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            held = set(archive.namelist())
            name = next((name for name in names if name in held), None)
            return None if name is None else (name, _unpacked(archive, archive.getinfo(name), most))
    except _DAMAGE as error:
        raise ConfigError(f"{what}: the zip cannot be read ({error})") from error


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    if info.flag_bits & 1:
        raise ValueError(f"{info.filename} is encrypted")
    if info.compress_type not in _PLAIN:
        raise ValueError(f"{info.filename} is packed in a way that is not read")
    if info.file_size > most:
        raise ValueError(f"{info.filename} has more than {most:,} bytes")
    with archive.open(info) as file:  # it gives no more than the size that was checked
        return file.read()
