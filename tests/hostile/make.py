"""Hostile files: the small ones kept beside this module, and those that no repository should hold."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import socket
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pypdf import PdfReader, PdfWriter

from moe_core.report import embed
from moe_core.report.manifest import NAME, Manifest

HERE = Path(__file__).parent
KEPT = tuple(sorted(path for path in HERE.iterdir() if path.is_file() and path.suffix != ".py"))


def texts() -> Iterator[tuple[str, bytes]]:
    """Text that is long, deep or of many digits."""
    digits = "9" * 5_000
    yield "digits.json", f'{{"batch": {digits}, "workload": {{"batch": {digits}}}}}'.encode()
    yield "digits_in_a_list.json", f"[{digits}]".encode()
    yield "digits_of_a_manifest.json", f'{{"schema": {digits}}}'.encode()
    yield "forty_digits.json", f'{{"mixture": "DBRX", "devices": {"9" * 39}, "batch": {"9" * 39}}}'.encode()
    for depth in (150, 400, 100_000):
        yield f"deep_{depth}.json", b'{"a":' * depth + b"1" + b"}" * depth
        yield f"deep_list_{depth}.json", b"[" * depth + b"]" * depth
        yield f"deep_usermeta_{depth}.json", b'{"usermeta": ' + b"[" * depth + b"]" * depth + b"}"
    yield "long_name.json", json.dumps({"x" * 100_000: 1, "mixture": "y" * 100_000}).encode()
    yield "many.svg", b"<metadata " * 300_000
    yield "many_ends.svg", b'<metadata id="moescope-manifest">' * 100_000
    yield "wide.csv", b"a," * 200_000 + b"\n" + b"1," * 200_000


def zips() -> Iterator[tuple[str, bytes]]:
    """Archives that are encrypted, packed in odd ways, far larger inside, or not what they say."""
    for name, packing in (("bz2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        yield f"{name}.zip", _zip({"manifest.json": bytes(1_000_000)}, packing)
    plain = _zip({"manifest.json": b'{"schema": 1}', embed.PART: b"<manifest>x</manifest>"})
    yield "plain.zip", plain
    yield "bomb.zip", _zip({"manifest.json": bytes(30_000_000)})
    yield "bomb_inside.zip", _zip({"manifest.json": b'{"a": [' + b"[]," * 2_000_000 + b"1]}"})
    at = plain.index(b"PK\x01\x02")
    yield "encrypted.zip", _put(_put(plain, 6, b"\1"), at + 8, b"\1")
    yield "packed_oddly.zip", _put(_put(plain, 8, b"\x63"), at + 10, b"\x63")
    yield "other_sum.zip", _put(plain, at + 16, b"\0\0\0\0")
    yield "other_size.zip", _put(plain, at + 24, b"\xff\xff\xff\x7f")
    yield "nowhere.zip", _put(plain, at + 42, b"\xff\xff\xff\x00")
    yield "after.zip", plain + b"x" * 70_000
    yield "names.zip", _zip({"../../etc/passwd": b"x", "a\nb" * 1_000: b"x", "manifest.json/": b"x"})
    yield "many.zip", _zip({str(number): b"" for number in range(11_000)})


def _zip(members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", packing) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return sink.getvalue()


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def checkpoints() -> Iterator[tuple[str, bytes]]:
    """Headers of safetensors files that promise what cannot be."""
    heads = {
        "huge": [{"shape": [2**62, 2**62], "data_offsets": [0, 8]}],
        "digits": [{"shape": [10**39] * 8, "data_offsets": [0, 8]}],
        "negative": [{"shape": [-4], "data_offsets": [8, 0]}],
        "backwards": [{"shape": [0], "data_offsets": [-8, -8]}],
        "overlapping": [{"shape": [2], "data_offsets": [0, 8]}, {"shape": [2], "data_offsets": [4, 12]}],
        "ranks": [{"shape": [1] * 100_000, "data_offsets": [0, 4]}],
        "words": [{"shape": "12", "data_offsets": "04"}],
        "floats": [{"shape": [1.5], "data_offsets": [0, 6]}],
        "none": [None],
    }
    for name, tensors in heads.items():
        head = json.dumps({f"t{at}": {"dtype": "F32", **(one or {})} for at, one in enumerate(tensors)})
        yield name, struct.pack("<Q", len(head)) + head.encode() + bytes(16)
    yield "long_head", struct.pack("<Q", 2**63) + b"{"
    yield "deep_head", struct.pack("<Q", 100_000) + b"[" * 100_000
    yield "cut_head", b"\1\2"


def containers(manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """One manifest in each kind of file that carries it without being drawn."""
    text = manifest.to_json()
    yield "whole.json", text.encode()
    yield "whole.zip", _zip({"manifest.json": text.encode()})
    yield "whole.svg", embed.into_svg("<svg></svg>", manifest, "x").encode()
    yield "whole.html", embed.script(manifest).encode()
    writer, sink = PdfWriter(), io.BytesIO()
    writer.add_blank_page(9, 9)
    writer.write(sink)
    assert PdfReader(sink).pages
    yield "whole.pdf", embed.into_pdf(sink.getvalue(), manifest)
    table, rows = io.BytesIO(), pa.table({"a": [1]})
    pq.write_table(rows.replace_schema_metadata({NAME: text}), table)
    yield "whole.parquet", table.getvalue()
    png = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(17) + b"\0\0\0\0IEND\xaeB`\x82"
    yield "whole.png", embed.into_png(png, manifest)


def damaged(name: str, data: bytes, dice: random.Random, times: int) -> Iterator[tuple[str, bytes]]:
    """The same file with bytes changed, cut off, or doubled."""
    for number in range(times):
        hurt = bytearray(data)
        for _ in range(dice.choice((1, 2, 8, 64))):
            hurt[dice.randrange(len(hurt))] = dice.choice((0, 255, dice.randrange(256)))
        kept = dice.choice((len(hurt), len(hurt), dice.randrange(1, len(hurt))))
        yield f"hurt_{number}_{name}", bytes(hurt[:kept]) + bytes(data[: dice.choice((0, 0, 50))])


def odd_places(folder: Path) -> Iterator[Path]:
    """What has a name and is no file, and names that no file can have."""
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    (folder / "loop.json").symlink_to("loop.json")
    (folder / "lost.json").symlink_to("nowhere.json")
    (folder / "zero.json").symlink_to("/dev/zero")
    with (folder / "sparse.json").open("wb") as file:
        file.truncate(3 * 10**9)
    with socket.socket(socket.AF_UNIX) as door:
        here = Path.cwd()
        os.chdir(folder)  # the name of a socket has 108 bytes at most
        door.bind("door.json")
        os.chdir(here)
    yield from sorted(folder.glob("*.json"))
    yield from map(Path, ("/dev/zero", "/dev/full", "/proc/self/mem", "/proc/kcore", "/", "."))
    yield from (folder / name for name in ("x" * 300 + ".json", "x" * 5_000, "nul\0.json", "half\udcff.json"))


def folders(folder: Path) -> Iterator[Path]:
    """Checkpoint folders, one for each hostile header, and one whose index is hostile."""
    for name, data in checkpoints():
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_bytes(data)
        yield folder / name
    for kept in KEPT:
        if kept.suffix == ".json":
            (folder / kept.stem).mkdir(parents=True)
            (folder / kept.stem / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
            shutil.copy(kept, folder / kept.stem / "model.safetensors.index.json")
            shutil.copy(kept, folder / kept.stem / "config.json")
            yield folder / kept.stem


def files(folder: Path) -> Iterator[Path]:
    """Every hostile file, copied or made in `folder`."""
    folder.mkdir()
    for kept in KEPT:
        yield Path(shutil.copy(kept, folder))
    for name, data in (*texts(), *zips()):
        (folder / f"made_{name}").write_bytes(data)
        yield folder / f"made_{name}"
    (folder / "odd").mkdir()
    yield from odd_places(folder / "odd")
