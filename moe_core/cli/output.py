"""Output: answers on stdout, as text or as one JSON object; errors as one sentence and an exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from moe_core import inputs
from moe_core.errors import CancelledError, ConfigError, InfeasibleError, MoEScopeError, StoreError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

EXIT_CODES: dict[type[MoEScopeError], int] = {
    ConfigError: 2,
    InfeasibleError: 3,
    StoreError: 4,
    CancelledError: 130,
}


def answer(values: Mapping[str, Any], as_json: bool, text: Iterable[str]) -> None:
    """Print `values` as JSON, or the lines of `text`. A file's name may hold bytes that no text has."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    plain = not encoding.lower().startswith("utf")
    words = json.dumps(values, ensure_ascii=plain) if as_json else "\n".join(text)
    print(words.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def save(out: Path, data: bytes) -> dict[str, Any]:
    """Write a file, whole or not at all. Raises ConfigError for what is no file, StoreError when the disk
    refuses."""
    what = inputs.named("out", out)
    try:
        if inputs.exists(out) and not out.is_file():
            raise ConfigError(f"{what}: must be a file, or the name of a new one")
        draft = out.with_name(f".{os.getpid()}.draft")
        try:
            draft.write_bytes(data)
            draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{what}: cannot be written ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{what}: must be the name of a file") from error
    return {"path": str(out), "bytes": len(data)}


def one_of(kind: Any) -> str:
    """The values of a Literal as an option's help: `auto, fp32 or bf16.`"""
    *first, last = get_args(kind)
    return f"{', '.join(first)} or {last}."


def explain(error: MoEScopeError, as_json: bool) -> int:
    """Print one sentence (stderr), or {"error": {...}} (stdout). Returns the exit code."""
    code = next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
    if as_json:
        kind = type(error).__name__.removesuffix("Error").lower()
        answer({"error": {"kind": kind, "message": str(error), "exit_code": code}}, True, ())
    else:
        print(f"error: {error}", file=sys.stderr)
    return code


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of left-aligned columns; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
