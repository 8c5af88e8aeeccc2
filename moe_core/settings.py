"""Settings: the few things an installation may change, all from the environment (`MOE_...`).

`MOE_DATA_DIR` moves the state directory: database, queue and runs. What ships with the program
(`MODELS`, `CORPUS`, `REFERENCE`) is read from the repository and never written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from moe_core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
MODELS = DATA / "models"
CORPUS = DATA / "corpus"
REFERENCE = DATA / "reference"


class Settings(BaseSettings):
    """One installation. Each field is read from `MOE_<FIELD>`; empty values count as unset.

    data_dir       the state directory, created with mode 0700.
    worker         "managed": the web process starts and stops the worker; "external": you do.
    queue_url      redis://, rediss:// or unix:// address; None is a SQLite file in data_dir.
    max_decisions  most router decisions one run may record (a decision takes about 16 bytes).
    max_queued     most questions that may wait in the queue at once.
    checkpoint_dirs  folders below which a page may read checkpoint headers, joined by ":"; "none" is none.
    """

    model_config = SettingsConfigDict(env_prefix="MOE_", env_ignore_empty=True, frozen=True, extra="forbid")

    data_dir: Path = DATA / "state"
    worker: Literal["managed", "external"] = "managed"
    queue_url: str | None = None
    max_decisions: Annotated[int, Field(ge=1)] = 20_000_000
    max_queued: Annotated[int, Field(ge=1)] = 32
    checkpoint_dirs: str = "~"

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return Path(os.path.abspath(value.expanduser()))

    @field_validator("queue_url")
    @classmethod
    def _scheme(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        urlsplit(value or "")  # raises ValueError
        return value

    @classmethod
    def load(cls) -> Self:
        """Settings from the environment, directories created. Raises ConfigError, one sentence."""
        try:
            settings = cls()
        except ValidationError as error:
            raise _name_the_variable(error) from error
        return settings.prepare()

    def prepare(self) -> Self:
        """Create the state and runs directories. One that exists already keeps its mode."""
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.runs_dir.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"MOE_DATA_DIR ({self.data_dir}): must be a directory that can be created ({error.strerror})"
            ) from error
        if not os.access(self.runs_dir, os.W_OK | os.X_OK):
            raise ConfigError(f"MOE_DATA_DIR ({self.data_dir}): must be a directory this user can write to")
        return self

    @property
    def checkpoint_folders(self) -> tuple[Path, ...]:
        """`checkpoint_dirs` as real paths: links followed, `~` the home of whoever started the program."""
        if self.checkpoint_dirs.strip() == "none":
            return ()
        return tuple(
            Path(os.path.realpath(os.path.expanduser(part)))
            for part in self.checkpoint_dirs.split(os.pathsep)
            if part.strip()
        )

    @property
    def runs_dir(self) -> Path:
        """Published bundles, one directory a run."""
        return self.data_dir / "runs"

    @property
    def quarantine_dir(self) -> Path:
        """Bundles that could not be read, kept for inspection."""
        return self.runs_dir / ".quarantine"

    @property
    def reviews_dir(self) -> Path:
        """A copy of each review, one file each."""
        return self.data_dir / "reviews"

    @property
    def devices_dir(self) -> Path:
        """What was measured to be fast on each device of this installation, one file each."""
        return self.data_dir / "devices"

    @property
    def scenarios_dir(self) -> Path:
        """A copy of each saved scenario, one file each."""
        return self.data_dir / "scenarios"

    @property
    def database(self) -> Path:
        """The DuckDB file: owned by the web process, rebuilt from the bundles at will."""
        return self.data_dir / "moe.duckdb"

    @property
    def queue_file(self) -> Path:
        """The SQLite queue, when no queue_url is given."""
        return self.data_dir / "queue.db"


def _name_the_variable(error: ValidationError) -> ConfigError:
    """Users set variables, not fields: `MOE_WORKER (auto): input should be 'managed' or 'external'`."""
    field = str(error.errors(include_url=False)[0]["loc"][0])
    sentence = str(ConfigError.from_validation(error))
    return ConfigError(sentence.replace(field, f"MOE_{field.upper()}", 1))
