"""Shelf: a file for each thing that people keep, beside the database. Written aside, renamed, readable by
its owner only. Reviews have one shelf, saved scenarios another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Generic, TypeVar

from pydantic import AfterValidator, Field

from moe_core import inputs
from moe_core.errors import ConfigError, StoreError
from moe_core.review import Case, Decision, Entry, Review, Saved
from moe_core.settings import Settings
from moe_core.specs import Spec
from moe_core.store.kept import check_id


def _moment(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is not None:
        raise ValueError("must be UTC without a zone")
    return text


_MOST = 64_000_000  # bytes of a file
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]
Moment = Annotated[str, AfterValidator(_moment)]  # UTC, ISO 8601


class Version(Spec):
    """One version of something that is kept."""

    version: Number
    created: Moment
    author: str


class ReviewVersion(Version):
    """One version of a review."""

    content: Review = Field(alias="review")


class CaseVersion(Version):
    """One version of a saved scenario."""

    content: Case = Field(alias="case")


class LogLine(Spec):
    """One line of the decision log."""

    entry: Number
    version: Number
    created: Moment
    decision: Decision


class ReviewCopy(Spec):
    """A review in full: every version, every decision."""

    identity: str = Field(alias="review_id")
    versions: Annotated[tuple[ReviewVersion, ...], Field(min_length=1)]
    log: tuple[LogLine, ...] = ()

    def saved(self, version: int | None = None) -> Saved:
        """One version with the whole log, the newest unless one is named. Raises ConfigError."""
        latest = max(one.version for one in self.versions)
        found = next((one for one in self.versions if one.version == (version or latest)), None)
        if found is None:
            raise ConfigError(f"version ({version}): the review {self.identity} has {latest} versions")
        when = datetime.fromisoformat(found.created)
        log = tuple(
            Entry(line.entry, datetime.fromisoformat(line.created), line.version, line.decision)
            for line in self.log
        )
        return Saved(self.identity, found.version, latest, when, found.author, found.content, log)


class CaseCopy(Spec):
    """A saved scenario in full: every version."""

    identity: str = Field(alias="scenario_id")
    versions: Annotated[tuple[CaseVersion, ...], Field(min_length=1)]


C = TypeVar("C", ReviewCopy, CaseCopy)


class Shelf(Generic[C]):
    """The files of one kind of thing: where they lie, what they hold, and its name in words."""

    def __init__(self, directory: Path, kind: type[C], noun: str) -> None:
        self.directory, self.noun = directory, noun
        self.kind: type[C] = kind

    def put(self, copy: C) -> Path:
        """Write or replace the file of one thing. Raises StoreError when the disk refuses."""
        path = self.directory / f"{check_id(copy.identity)}.json"
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(copy.model_dump_json(by_alias=True))
                file.flush()
                os.fsync(handle)
            draft.replace(path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise StoreError(f"the {self.noun} could not be copied to {path} ({error.strerror})") from error
        return path

    def get(self, identity: str) -> C:
        """One thing by its identity. Raises ConfigError if there is none such or it cannot be read."""
        path = self.directory / f"{check_id(identity)}.json"
        try:
            found = self.kind.parse_json(inputs.content(path, _MOST))
        except OSError as error:
            raise ConfigError(
                f"{self.noun} ({identity}): must be a {self.noun} saved here ({error.strerror})"
            ) from error
        if found.identity != identity:
            raise ConfigError(
                f"{path} holds the {self.noun} {found.identity[:40]}: give it its own name back"
            )
        return found

    def every(self) -> Iterator[C]:
        """All that can be read."""
        for path in sorted(self.directory.glob("*.json")) if self.directory.is_dir() else ():
            with suppress(ConfigError, StoreError):
                yield self.get(path.stem)

    def remove(self, identity: str) -> None:
        """Delete the file of one thing, if there is one."""
        (self.directory / f"{check_id(identity)}.json").unlink(missing_ok=True)


def of_reviews(settings: Settings) -> Shelf[ReviewCopy]:
    """The copies of reviews of this installation."""
    return Shelf(settings.reviews_dir, ReviewCopy, "review")


def of_scenarios(settings: Settings) -> Shelf[CaseCopy]:
    """The copies of saved scenarios of this installation."""
    return Shelf(settings.scenarios_dir, CaseCopy, "scenario")
