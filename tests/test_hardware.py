"""Devices: strictly read, in SI units, every one with a source."""

from pathlib import Path

import pytest

from moe_core import hardware
from moe_core.errors import ConfigError
from moe_core.hardware import Hardware

WANTED = (
    *("A100 40GB", "A100 80GB", "H100", "H200", "H20", "B200", "B300", "GB200", "L4", "L40S"),
    *("RTX 4090", "RTX 5090", "RTX PRO 6000", "MI300X", "MI355X", "M2 Ultra 192GB", "M3 Ultra 512GB"),
)


def test_the_devices_there_are() -> None:
    assert hardware.names() == WANTED
    assert len({device.name for device in hardware.devices()}) == len(WANTED)


@pytest.mark.parametrize("device", hardware.devices(), ids=lambda device: device.name)
def test_a_device_is_plausible(device: Hardware) -> None:
    assert device.source
    assert 20e9 < device.capacity < 1e12
    assert 0.2e12 < device.bandwidth < 10e12
    assert 20e12 < device.peak("bf16") < 3e15
    assert device.peak("fp8") >= device.peak("bf16") >= device.peak("fp32")
    assert device.peak("int4") == device.peak("bf16")
    assert 30 < device.ridge() < 500


def test_ridges_as_published() -> None:
    ridges = {
        name: round(hardware.get(name).ridge()) for name in ("A100 80GB", "H100", "H200", "H20", "B200")
    }
    assert ridges == {"A100 80GB": 153, "H100": 295, "H200": 206, "H20": 37, "B200": 281}


def test_a_format_a_device_lacks_runs_in_the_next_wider() -> None:
    a100, b200 = hardware.get("a100-80gb"), hardware.get("B200")
    assert a100.peak("fp8") == a100.peak("bf16") == 312e12
    assert b200.peak("mxfp4") == 9e15
    with pytest.raises(ConfigError, match=r"dtype \(int2\)"):
        a100.peak("int2")


def test_links_are_one_way_and_unified_memory_is_its_own_host() -> None:
    assert hardware.get("h100").link == 450e9
    ultra = hardware.get("m3-ultra-512gb")
    assert ultra.unified
    assert ultra.host == ultra.bandwidth


@pytest.mark.parametrize(("name", "sentence"), [("A100", "A100 40GB, A100 80GB"), ("TPU v5", "none|close")])
def test_an_unknown_device(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        hardware.get(name)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [("colour = 1", r"colour \(1\)"), ("capacity_gb = -1", "capacity_gb"), ('grade = "R"', "grade")],
)
def test_a_wrong_line_names_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, sentence: str
) -> None:
    first = hardware.DATA.read_text(encoding="utf-8").split("[[device]]")[1]
    key = line.split(" =")[0]
    kept = "\n".join(row for row in first.splitlines() if not row.startswith(f"{key} ="))
    (tmp_path / "hardware.toml").write_text(f"[[device]]\n{kept}\n{line}\n")
    monkeypatch.setattr(hardware, "DATA", tmp_path / "hardware.toml")
    hardware._read.cache_clear()
    try:
        with pytest.raises(ConfigError, match=sentence):
            hardware.devices()
    finally:
        hardware._read.cache_clear()
