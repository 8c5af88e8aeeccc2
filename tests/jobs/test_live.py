"""The live file: whole or absent, private, forgotten, and never a reason for an experiment to end."""

import stat
from pathlib import Path

import pytest

from moe_core.jobs import live
from moe_core.settings import Settings

JOB = "0123456789abcdef"
PICTURE = {"lab": "collapse", "series": [{"arm": "none", "x": [1.0, 2.0], "value": [5.5, 5.25]}], "loads": []}


def test_what_is_shown_is_read_and_replaced_as_a_whole(settings: Settings):
    live.show(settings.data_dir, JOB, PICTURE)
    assert live.read(settings.data_dir, JOB) == PICTURE
    live.show(settings.data_dir, JOB, {"lab": "collapse", "series": [], "loads": []})
    assert live.read(settings.data_dir, JOB) == {"lab": "collapse", "series": [], "loads": []}
    assert [path.name for path in (settings.data_dir / "live").iterdir()] == [f"{JOB}.json"]


def test_jobs_are_kept_apart_and_others_cannot_read_them(settings: Settings):
    live.show(settings.data_dir, JOB, PICTURE)
    assert live.read(settings.data_dir, "f" * 16) is None
    assert stat.S_IMODE((settings.data_dir / "live").stat().st_mode) == 0o700


def test_when_the_job_is_over_nothing_is_left(settings: Settings):
    live.show(settings.data_dir, JOB, PICTURE)
    live.forget(settings.data_dir, JOB)
    assert live.read(settings.data_dir, JOB) is None
    assert not list((settings.data_dir / "live").iterdir())
    live.forget(settings.data_dir, JOB)  # twice is once


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"null"])
def test_half_a_picture_is_no_picture(settings: Settings, content: bytes):
    path = settings.data_dir / "live" / f"{JOB}.json"
    path.parent.mkdir()
    path.write_bytes(content)
    assert live.read(settings.data_dir, JOB) is None


def test_a_picture_beyond_any_size_is_not_read(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    live.show(settings.data_dir, JOB, PICTURE)
    monkeypatch.setattr(live, "MOST_BYTES", 10)
    assert live.read(settings.data_dir, JOB) is None


def test_a_disk_that_refuses_costs_the_picture_alone(tmp_path: Path):
    (tmp_path / "live").write_text("a file where the folder would be")
    live.show(tmp_path, JOB, PICTURE)
    assert live.read(tmp_path, JOB) is None


def test_what_is_no_number_is_a_bug_of_the_experiment(settings: Settings):
    with pytest.raises(ValueError, match="JSON compliant"):
        live.show(settings.data_dir, JOB, {"series": [float("nan")]})
