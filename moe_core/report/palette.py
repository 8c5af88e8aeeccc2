"""Palette: every colour of the project, light and dark. `.streamlit/config.toml` repeats them, a test
compares.

Okabe and Ito's colour-blind-safe set (https://jfly.uni-koeln.de/color), lightened for dark. Charts name
a role, never a colour, so that the browser can switch theme without asking the server. Both continuous
palettes grow darker (lighter on dark) all the way, so they also read in grey; the diverging one
changes hue at fair share.
"""

from __future__ import annotations

from typing import Any, NamedTuple

# A role is a position in the categorical palette. The last one is the colour of text.
ROLES = ("dense", "mixture", "published", "limit", "ochre", "pink", "teal", "purple", "ink")


class Palette(NamedTuple):
    """One theme. Hex colours; `sequential` and `diverging` have ten steps, as Streamlit wants."""

    background: str
    panel: str
    text: str
    faded: str
    grid: str
    primary: str
    categorical: tuple[str, ...]
    sequential: tuple[str, ...]
    diverging: tuple[str, ...]

    def role(self, name: str) -> str:
        """Colour of a role."""
        return self.categorical[ROLES.index(name)]


LIGHT = Palette(
    background="#FFFFFF",
    panel="#F4F3F6",
    text="#1D1B22",
    faded="#55525E",
    grid="#E3E1E8",
    primary="#5D337E",
    categorical=(
        "#0072B2",
        "#D55E00",
        "#009E73",
        "#767676",
        "#8A6D00",
        "#B04A86",
        "#2A7F9E",
        "#5D337E",
        "#1D1B22",
    ),
    sequential=(
        "#FDF4E7",
        "#F9D5AF",
        "#F7B478",
        "#EC924E",
        "#DD7025",
        "#C5540B",
        "#A54210",
        "#873110",
        "#6B250F",
        "#501A0C",
    ),
    diverging=(
        "#FFF6A6",
        "#F0E6A9",
        "#DED7AB",
        "#CCC8AD",
        "#BAB9AF",
        "#A79CB1",
        "#8F78A4",
        "#765592",
        "#5D337E",
        "#450768",
    ),
)

DARK = Palette(
    background="#111015",
    panel="#1C1A22",
    text="#F2F0F5",
    faded="#B3AFBD",
    grid="#34313D",
    primary="#B08ADB",
    categorical=(
        "#56B4E9",
        "#FF8A3D",
        "#35C79A",
        "#A3A0AA",
        "#F0E442",
        "#E59AC6",
        "#7FD3EE",
        "#C9A3EA",
        "#F2F0F5",
    ),
    sequential=(
        "#2C1E19",
        "#48291D",
        "#653320",
        "#874221",
        "#AA521F",
        "#C86B28",
        "#E08C41",
        "#F1AE63",
        "#F6D197",
        "#FFF1CC",
    ),
    diverging=(
        "#302600",
        "#3A3214",
        "#453F29",
        "#504C3F",
        "#5B5A54",
        "#736B78",
        "#9583A0",
        "#B79EC8",
        "#DAB9F0",
        "#FFD5FF",
    ),
)

PALETTES = {"light": LIGHT, "dark": DARK}


def vega_config(palette: Palette) -> dict[str, Any]:
    """Vega-Lite `config` for files made without a browser; on screen Streamlit supplies its own."""
    text = {"labelColor": palette.text, "titleColor": palette.text, "labelFontSize": 12, "titleFontSize": 12}
    return {
        "background": palette.background,
        "font": "DejaVu Sans, Verdana, sans-serif",  # the widest first: no other outgrows its place
        "title": {"color": palette.text, "anchor": "start", "fontSize": 15, "offset": 16},
        "axis": {
            **text,
            "gridColor": palette.grid,
            "domain": False,
            "ticks": False,
            "titlePadding": 10,
            "labelPadding": 5,
        },
        "legend": text,
        "header": text,
        "view": {"stroke": "transparent"},
        "text": {"color": palette.text},
        "range": {
            "category": list(palette.categorical),
            "diverging": list(palette.diverging),
            "heatmap": list(palette.sequential),
            "ramp": list(palette.sequential),
        },
    }


# -- the components of memory -----------------------------------------------------------------------

# Components that are drawn together, at the place of their colour in the theme: what only dense models
# have is blue, what only mixtures have is vermilion, the rest keeps off both.
GROUPS = {
    "dense FFN": ("ffn",),
    "experts": ("experts",),
    "unused": (),  # green is for published facts
    "attention, router, norms": ("attention", "router", "norms", "mixer", "other", "tower"),
    "shared experts": ("shared",),
    "activations": ("activations",),
    "embedding and head": ("embedding", "head"),
    "KV cache and state": ("kv_cache", "state"),
    "gradients and optimizer": ("gradients", "optimizer"),
}
STACK = (  # from the left: weights, what serving adds, what training adds
    "experts",
    "dense FFN",
    "shared experts",
    "attention, router, norms",
    "embedding and head",
    "KV cache and state",
    "activations",
    "gradients and optimizer",
)
SHADES = {  # opacity: neighbours in a stack differ in grey too
    "unused": 1.0,
    "experts": 1.0,
    "dense FFN": 1.0,
    "shared experts": 0.35,
    "attention, router, norms": 0.55,
    "embedding and head": 0.3,
    "KV cache and state": 1.0,
    "activations": 0.5,
    "gradients and optimizer": 0.45,
}
_REST = "attention, router, norms"


def part_of(component: str) -> str:
    """The group a component is drawn with."""
    return next((name for name, parts in GROUPS.items() if component in parts), _REST)
