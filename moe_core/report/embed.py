"""Embed: the manifest inside each container, and back out of any of them.

PNG a compressed iTXt chunk; SVG a metadata element; PDF an attachment; HTML a JSON script; Parquet the
schema's metadata; Vega-Lite `usermeta`; PowerPoint a custom XML part; ZIP a member. A CSV stays clean:
its manifest is a file beside it.
"""

from __future__ import annotations

import html
import io
import json
import logging
import zlib
from pathlib import Path

from moe_core import inputs
from moe_core.errors import ConfigError
from moe_core.report.manifest import NAME, Manifest

MEMBER = "manifest.json"
PART = "customXml/item1.xml"
_MOST, _INSIDE = 64_000_000, 8_000_000  # bytes of a file, of the manifest in one
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
    what = inputs.named("manifest", path)
    text = extract(inputs.read(path, what, _MOST))
    if text is None:
        raise ConfigError(
            f"{what}: must be a manifest or a file exported by MoEScope that carries one; "
            "the manifest of a CSV is the file beside it"
        )
    inputs.parse(text, what)  # depth and numbers; then what each field must be
    return Manifest.parse_json(text)


def extract(data: bytes) -> str | bytes | None:
    """The manifest's JSON out of any container; None where there is none. Raises ConfigError."""
    take = next((take for magic, take in _CONTAINERS if data.startswith(magic)), None)
    try:
        return take(data) if take else None
    except (ValueError, zlib.error, OSError) as error:
        raise ConfigError(f"manifest: the file is damaged ({error})") from error


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
            return zlib.decompressobj().decompress(body[len(start) :], _INSIDE).decode()
        at += size + 12
    return None


def _from_pdf(data: bytes) -> bytes | None:
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells every damage, line after line
    try:
        found = PdfReader(io.BytesIO(data)).attachments.get(f"{NAME}.json")
    except Exception as error:  # a damaged file makes it raise whatever Python has
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return found[0] if found else None


def _from_zip(data: bytes) -> str | bytes | None:
    found = inputs.member(data, (PART, MEMBER), "manifest", _INSIDE)
    if found is None or found[0] == MEMBER:
        return found and found[1]
    return _inner(found[1].decode(), "manifest")


def _from_parquet(data: bytes) -> bytes | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found: bytes | None = (pq.read_schema(io.BytesIO(data)).metadata or {}).get(NAME.encode())
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    return found


def _from_json(data: bytes) -> str | bytes | None:
    values = inputs.parse(data, "manifest")
    if "usermeta" not in values:
        return data
    kept = values["usermeta"]
    return json.dumps(kept[NAME]) if isinstance(kept, dict) and NAME in kept else None


def _from_markup(data: bytes) -> str | None:
    text = data.decode("utf-8", "replace")
    return _inner(text, "metadata", NAME) or _inner(text, "script", NAME)


def _inner(text: str, tag: str, mark: str = "") -> str | None:
    """What the first such element holds. In a script nothing is escaped, in XML all is."""
    head = 0
    while (start := text.find(f"<{tag}", head)) >= 0 and (head := text.find(">", start)) >= 0:
        if mark in text[start:head]:
            inside, closed, _ = text[head + 1 :].partition(f"</{tag}>")
            return None if not closed else inside if tag == "script" else html.unescape(inside)
    return None


_CONTAINERS = (
    (_PNG, _from_png),
    (b"%PDF", _from_pdf),
    (b"PK\x03\x04", _from_zip),
    (b"PAR1", _from_parquet),
    (b"{", _from_json),
    (b"<", _from_markup),
)
