"""Embed: the manifest inside each container, and back out of any of them.

PNG a compressed iTXt chunk; SVG a metadata element; PDF an attachment; HTML a JSON script; Parquet the
schema's metadata; Vega-Lite `usermeta`; PowerPoint a custom XML part; ZIP a member. A CSV stays clean:
its manifest is a file beside it.
"""

from __future__ import annotations

import html
import io
import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from moe_core.errors import ConfigError
from moe_core.report.manifest import NAME, Manifest

MEMBER = "manifest.json"
PART = "customXml/item1.xml"
_MOST = 64_000_000  # bytes of a file, or of the member of a zip, that are read
_PNG = b"\x89PNG\r\n\x1a\n"


def into_png(data: bytes, manifest: Manifest) -> bytes:
    """The text chunks follow the header chunk, which is 25 bytes after the signature."""
    words = {"Title": manifest.title, "Software": "MoEScope", "Source": "; ".join(manifest.lines)}
    chunks = b"".join(_itxt(key, text) for key, text in {**words, NAME: manifest.to_json()}.items())
    end = len(_PNG) + 25
    return data[:end] + chunks + data[end:]


def into_svg(drawn: str, manifest: Manifest, alt: str) -> str:
    """Title, description and manifest, first in the picture."""
    start = drawn.index(">", drawn.index("<svg")) + 1
    words = (
        f"<title>{html.escape(manifest.title)}</title><desc>{html.escape(alt)}</desc>"
        f'<metadata id="{NAME}">{html.escape(manifest.to_json(), quote=False)}</metadata>'
    )
    return drawn[:start] + words + drawn[start:]


def into_pdf(data: bytes | list[bytes], manifest: Manifest) -> bytes:
    """One or several one-page PDFs as one document, the manifest attached."""
    from pypdf import PdfReader, PdfWriter  # a third of a second: not for every process

    writer = PdfWriter()
    for page in [data] if isinstance(data, bytes) else data:
        writer.append(PdfReader(io.BytesIO(page)), import_outline=False)
    words = {"/Title": manifest.title, "/Creator": "MoEScope", "/Subject": "; ".join(manifest.lines)}
    writer.add_metadata(words)
    writer.add_attachment(f"{NAME}.json", manifest.to_json().encode())
    writer.compress_identical_objects()
    sink = io.BytesIO()
    writer.write(sink)
    return sink.getvalue()


def script(manifest: Manifest) -> str:
    """The element that carries the manifest in HTML; `to_json` has no character that could end it."""
    return f'<script type="application/json" id="{NAME}">{manifest.to_json()}</script>'


def xml(manifest: Manifest) -> bytes:
    """The custom XML part of a PowerPoint file."""
    text = html.escape(manifest.to_json(), quote=False)
    return f'<?xml version="1.0" encoding="UTF-8"?><manifest xmlns="urn:moescope">{text}</manifest>'.encode()


def read(path: Path) -> Manifest:
    """The manifest of an export, or a manifest itself. Raises ConfigError, one sentence."""
    try:
        if path.stat().st_size > _MOST:
            raise ConfigError(f"manifest ({path}): must be at most {_MOST:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"manifest ({path}): cannot be read ({error.strerror})") from error
    text = extract(data)
    if text is None:
        raise ConfigError(
            f"manifest ({path}): must be a manifest or a file exported by MoEScope that carries one; "
            "the manifest of a CSV is the file beside it"
        )
    return Manifest.parse_json(text)


def extract(data: bytes) -> str | bytes | None:
    """The manifest's JSON out of any container; None where there is none."""
    for magic, take in _CONTAINERS:
        if data.startswith(magic):
            try:
                return take(data)
            except (ValueError, KeyError, OSError, zlib.error, zipfile.BadZipFile) as error:
                raise ConfigError(f"manifest: the file is damaged ({error})") from error
    return None


def _itxt(key: str, text: str) -> bytes:
    """An international text chunk, compressed (PNG, third edition, section 11.3.3.4)."""
    body = key.encode("latin-1") + b"\0\x01\0\0\0" + zlib.compress(text.encode())
    kind = b"iTXt" + body
    return len(body).to_bytes(4, "big") + kind + zlib.crc32(kind).to_bytes(4, "big")


def _from_png(data: bytes) -> str | None:
    at, start = len(_PNG), NAME.encode() + b"\0\x01\0\0\0"
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + size]
        if kind == b"iTXt" and body.startswith(start):
            return zlib.decompressobj().decompress(body[len(start) :], _MOST).decode()
        at += size + 12
    return None


def _from_pdf(data: bytes) -> bytes | None:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        found = PdfReader(io.BytesIO(data)).attachments.get(f"{NAME}.json")
    except PyPdfError as error:
        raise ValueError(str(error)) from error
    return found[0] if found else None


def _from_zip(data: bytes) -> str | bytes | None:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        for name in (PART, MEMBER):
            if name in file.namelist():
                if file.getinfo(name).file_size > _MOST:
                    raise ValueError(f"{name} is too large")
                text = file.read(name)
                return _inner(text.decode(), "manifest") if name == PART else text
    return None


def _from_parquet(data: bytes) -> bytes | None:
    import pyarrow.parquet as pq

    found: bytes | None = (pq.read_schema(io.BytesIO(data)).metadata or {}).get(NAME.encode())
    return found


def _from_json(data: bytes) -> str | bytes | None:
    values: Any = json.loads(data)
    inside = values.get("usermeta", {}).get(NAME) if "usermeta" in values else None
    return json.dumps(inside) if inside is not None else data


def _from_markup(data: bytes) -> str | None:
    text = data.decode("utf-8", "replace")
    return _inner(text, "metadata") or _inner(text, "script")


def _inner(text: str, tag: str) -> str | None:
    """What the first element with our name holds. In a script nothing is escaped, in XML all is."""
    mark = "" if tag == "manifest" else rf'[^>]*id="{NAME}"'
    found = re.search(rf"<{tag}{mark}[^>]*>(.*?)</{tag}>", text, re.S)
    if found is None:
        return None
    return found[1] if tag == "script" else html.unescape(found[1])


_CONTAINERS = (
    (_PNG, _from_png),
    (b"%PDF", _from_pdf),
    (b"PK\x03\x04", _from_zip),
    (b"PAR1", _from_parquet),
    (b"{", _from_json),
    (b"<", _from_markup),
)
