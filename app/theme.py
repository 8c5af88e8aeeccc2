"""Theme: the colours of the screen, which are those of every report: `moe_core.report.palette`."""

from moe_core.report.palette import DARK, LIGHT, PALETTES, ROLES, Palette, vega_config

__all__ = ["DARK", "LIGHT", "PALETTES", "ROLES", "Palette", "vega_config"]
