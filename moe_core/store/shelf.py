"""Shelf: a file for each review, beside the database. Written aside, renamed, readable by its owner only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from moe_core.errors import ConfigError, StoreError
from moe_core.review import Decision, Entry, Review, Saved
from moe_core.specs import Spec
from moe_core.store.kept import check_id


class Version(Spec):
    """One version of a review; `created` is UTC, ISO 8601."""

    version: int
    created: str
    author: str
    review: Review


class Line(Spec):
    """One line of the decision log."""

    entry: int
    version: int
    created: str
    decision: Decision


class Copy(Spec):
    """A review in full: every version, every decision."""

    review_id: str
    versions: tuple[Version, ...]
    log: tuple[Line, ...] = ()

    def saved(self, version: int | None = None) -> Saved:
        """One version with the whole log, the newest unless one is named. Raises ConfigError."""
        latest = max(one.version for one in self.versions)
        found = next((one for one in self.versions if one.version == (version or latest)), None)
        if found is None:
            raise ConfigError(f"version ({version}): the review {self.review_id} has {latest} versions")
        when = datetime.fromisoformat(found.created)
        log = tuple(
            Entry(line.entry, datetime.fromisoformat(line.created), line.version, line.decision)
            for line in self.log
        )
        return Saved(self.review_id, found.version, latest, when, found.author, found.review, log)


def put(directory: Path, copy: Copy) -> Path:
    """Write or replace the file of a review. Raises StoreError when the disk refuses."""
    path = directory / f"{check_id(copy.review_id)}.json"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(copy.model_dump_json())
            file.flush()
            os.fsync(handle)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise StoreError(f"the review could not be copied to {path} ({error.strerror})") from error
    return path


def get(directory: Path, review_id: str) -> Copy:
    """A review by its identity. Raises ConfigError if there is none such or it cannot be read."""
    path = directory / f"{check_id(review_id)}.json"
    try:
        return Copy.parse_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"review ({review_id}): must be a review saved here ({error.strerror})") from error


def every(directory: Path) -> Iterator[Copy]:
    """All reviews that can be read."""
    for path in sorted(directory.glob("*.json")) if directory.is_dir() else ():
        with suppress(ConfigError, StoreError):
            yield get(directory, path.stem)


def remove(directory: Path, review_id: str) -> None:
    """Delete the file of a review, if there is one."""
    (directory / f"{check_id(review_id)}.json").unlink(missing_ok=True)
