"""Devices: strictly read, in SI units, every one with a source."""

from pathlib import Path

import pytest

from moe_core import hardware
from moe_core.errors import ConfigError
from moe_core.hardware import Hardware

WANTED = (
    *("A100 40GB", "A100 80GB", "H100", "H200", "H20", "B200", "B300", "GB200", "L4", "L40S"),
    *("RTX 4090", "RTX 5090", "RTX PRO 6000", "MI300X", "MI355X", "M2 Ultra 192GB", "M3 Ultra 512GB"),
    *("A800 80GB", "H800", "H20-3e", "A10", "V100 32GB", "RTX 3090", "DGX Spark", "Ryzen AI Max+ 395"),
    *("M4 Max 128GB", "MI300A", "MI325X", "TPU v5e", "TPU v6e"),
)


def test_the_devices_there_are() -> None:
    assert hardware.names() == WANTED
    assert len({device.name for device in hardware.devices()}) == len(WANTED)


@pytest.mark.parametrize("device", hardware.devices(), ids=lambda device: device.name)
def test_a_device_is_plausible(device: Hardware) -> None:
    assert device.source
    assert 15e9 < device.capacity < 1e12
    assert 0.2e12 < device.bandwidth < 10e12
    assert 15e12 < device.peak("bf16") < 3e15
    assert device.peak("fp8") >= device.peak("bf16")
    assert "fp32" not in device.peak_tflops or device.peak("bf16") >= device.peak("fp32")
    assert device.peak("int4") == device.peak("bf16")
    assert 30 < device.ridge() < 600
    assert device.watts == 0 or 50 < device.watts < 1500


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


@pytest.mark.parametrize(
    ("name", "sentence"), [("A100", "A100 40GB, A100 80GB"), ("TPU v5", "TPU v5e"), ("Gaudi 3", "none|close")]
)
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


CARD = """
name = "My card"
capacity_gb = 32
bandwidth_gbs = 1000
host_gbs = 32.5
link_gbs = 64
usd_per_hour = 0.4
watts = 300
peak_tflops = { bf16 = 100, fp8 = 200 }
"""
LINE = "My card: memory=32 bandwidth=1000 host=32.5 link=64 price=0.4 watts=300 bf16=100 fp8=200"


def test_a_device_of_ones_own_is_its_line() -> None:
    card = hardware.from_toml(CARD)
    assert card.name == LINE
    assert hardware.get(LINE) == card
    assert card.title == "My card (your own device)"
    assert (card.bandwidth, card.link, card.host, card.watts) == (1e12, 32e9, 32.5e9, 300)
    assert card.peak("mxfp4") == 200e12
    assert card.grade == "own"


def test_what_is_left_out_is_not_there() -> None:
    card = hardware.get("Old: memory=16 bandwidth=300 host=16 fp16=65")
    assert (card.watts, card.usd_per_hour, card.link) == (0, 0, 0)
    assert card.peak("bf16") == card.peak("fp8") == 65e12
    assert hardware.get("V100 32GB").peak("bf16") == 125e12


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("capacity_gb = -1", r"capacity_gb \(-1\)"),
        ("capacity_gb = inf", r"capacity_gb \(inf\)"),
        ('bandwidth_gbs = "fast"', r"bandwidth_gbs \(fast\)"),
        ("host_gbs = 0", r"host_gbs \(0\)"),
        ("bandwidth_gbs = 1e-300", r"bandwidth_gbs \(1e-300\)"),
        ("link_gbs = 1e-300", r"link_gbs \(1e-300\).*must be 0 or at least 1e-09"),
        ("watts = 1e-300", r"watts \(1e-300\).*must be 0 or at least 1e-09"),
        ("peak_tflops = { bf16 = 1e-300 }", r"peak_tflops.bf16 \(1e-300\)"),
        ("watts = -5", r"watts \(-5\)"),
        ('name = "a:b"', r"name \(a:b\)"),
        ("peak_tflops = { fp8 = 1 }", "peak_tflops must hold bf16 or fp16"),
        ("peak_tflops = { fp7 = 1 }", "peak_tflops.fp7"),
        ("colour = 1", r"colour \(1\)"),
        ("capacity_gb = ", "must be TOML"),
        ("capacity_gb = " + "9" * 5000, "must be TOML"),
    ],
)
def test_a_bad_field_of_ones_own_is_one_sentence(line: str, sentence: str) -> None:
    key = line.split(" =")[0]
    kept = "\n".join(row for row in CARD.splitlines() if not row.startswith(f"{key} ="))
    with pytest.raises(ConfigError, match=sentence) as raised:
        hardware.from_toml(f"{kept}\n{line}\n")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "line", ["x: memory=", "x: memory=1 bandwidth=nan host=1 bf16=1", "x: memory=1 bf16", "x: memory=1" * 99]
)
def test_a_bad_line_is_one_sentence(line: str) -> None:
    with pytest.raises(ConfigError):
        hardware.get(line)
