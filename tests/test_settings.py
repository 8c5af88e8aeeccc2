from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from moe_core import settings as module
from moe_core.errors import ConfigError
from moe_core.settings import Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"MOE_{name.upper()}", raising=False)
    monkeypatch.setenv("MOE_DATA_DIR", str(tmp_path / "deep" / "state"))


def test_the_environment_moves_the_state_and_it_is_private(tmp_path: Path):
    settings = Settings.load()
    assert settings.data_dir == tmp_path / "deep" / "state"
    for path in (settings.data_dir, settings.runs_dir):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (settings.database, settings.queue_file, settings.runs_dir, settings.quarantine_dir):
        assert settings.data_dir in path.parents


def test_the_default_is_under_the_repository(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MOE_DATA_DIR")
    assert Settings().data_dir == module.ROOT / "data" / "state"
    assert (module.ROOT / "moe_core" / "settings.py").exists()


def test_a_directory_of_somebody_else_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "shared").mkdir(mode=0o755)
    monkeypatch.setenv("MOE_DATA_DIR", str(tmp_path / "shared"))
    settings = Settings.load()
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o755
    assert stat.S_IMODE(settings.runs_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("WORKER", "auto", "'managed' or 'external'"),
        ("QUEUE_URL", "http://x", "must start with redis://"),
        ("MAX_DECISIONS", "0", "greater than or equal to 1"),
        ("MAX_DECISIONS", "many", "valid integer"),
        ("MAX_QUEUED", "-3", "greater than or equal to 1"),
    ],
)
def test_a_bad_value_is_one_sentence(variable: str, value: str, rule: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(f"MOE_{variable}", value)
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    message = str(caught.value)
    assert message.startswith(f"MOE_{variable} ({value}): ")
    assert rule in message
    assert "\n" not in message


def test_a_state_directory_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOE_DATA_DIR", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"MOE_DATA_DIR \(.*file\): must be a directory"):
        Settings.load()


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOE_WORKER", "")
    assert Settings.load().worker == "managed"


def test_what_the_web_process_imports_has_no_torch():
    code = (
        "import sys; import moe_core.settings, moe_core.version, moe_core.runs.bundle, "
        "moe_core.store.ingest, moe_core.store.text; "
        "assert not {'torch', 'transformers', 'streamlit'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=module.ROOT)


def test_checkpoint_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert Settings().checkpoint_folders == (Path.home().resolve(),)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("MOE_CHECKPOINT_DIRS", f"{tmp_path / 'link'}:~")
    assert Settings().checkpoint_folders == ((tmp_path / "real").resolve(), Path.home().resolve())
    monkeypatch.setenv("MOE_CHECKPOINT_DIRS", "none")
    assert Settings().checkpoint_folders == ()
