"""The theme: config and code agree, and every colour can be told from the next and from its background."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from moe_core.report.palette import DARK, LIGHT, PALETTES, ROLES, Palette, vega_config

CONFIG = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text())


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("name", PALETTES)
def test_config_repeats_the_palette(name: str) -> None:
    palette, section = PALETTES[name], CONFIG["theme"][name]
    assert section["backgroundColor"] == palette.background
    assert section["secondaryBackgroundColor"] == palette.panel
    assert section["textColor"] == palette.text
    assert section["primaryColor"] == palette.primary
    assert tuple(section["chartCategoricalColors"]) == palette.categorical
    assert tuple(section["chartSequentialColors"]) == palette.sequential
    assert tuple(section["chartDivergingColors"]) == palette.diverging


@pytest.mark.parametrize("palette", [LIGHT, DARK])
@pytest.mark.parametrize("scale", ["sequential", "diverging"])
def test_continuous_palettes_have_ten_steps_and_read_in_grey(palette: Palette, scale: str) -> None:
    """Every step is darker than the one before (lighter on dark): the order survives a photocopier."""
    steps = [luminance(colour) for colour in getattr(palette, scale)]
    assert len(steps) == 10
    falls = palette is LIGHT
    assert steps == sorted(steps, reverse=falls)
    assert min(abs(a - b) for a, b in pairwise(steps)) > 0.004


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_roles_stand_out_from_the_background(palette: Palette) -> None:
    assert len(palette.categorical) == len(ROLES)
    assert all(contrast(palette.role(role), palette.background) >= 3 for role in ROLES)
    assert contrast(palette.role("ink"), palette.background) >= 7
    assert contrast(palette.faded, palette.background) >= 4.5
    assert contrast(palette.primary, palette.panel) >= 4.5  # slider values in the sidebar


def test_dense_mixture_and_facts_are_okabe_and_ito() -> None:
    assert [LIGHT.role(name) for name in ("dense", "mixture", "published")] == [
        "#0072B2",
        "#D55E00",
        "#009E73",
    ]


def test_nothing_is_sent_anywhere_and_the_server_stays_local() -> None:
    assert CONFIG["browser"]["gatherUsageStats"] is False
    assert CONFIG["server"]["address"] == "127.0.0.1"
    assert CONFIG["client"]["showErrorDetails"] == "type"
    assert "http" not in str(CONFIG["theme"])


def test_files_carry_the_ranges_the_browser_would_add() -> None:
    ranges = vega_config(DARK)["range"]
    assert ranges["category"] == list(DARK.categorical)
    assert ranges["diverging"] == list(DARK.diverging)
