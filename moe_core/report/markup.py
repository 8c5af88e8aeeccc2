"""Markup: the one frame of every HTML file we write. Nothing in it can load from, or send to, anywhere.

The policy in the head forbids every request. A report has no script at all; only a living chart has.
"""

from __future__ import annotations

import html

from moe_core.report import embed
from moe_core.report.manifest import Manifest
from moe_core.report.palette import Palette
from moe_core.report.text import clean, line


def text(value: str) -> str:
    """Anybody's text inside an element or an attribute."""
    return html.escape(clean(value))


def page(title: str, body: str, manifest: Manifest, palette: Palette, living: bool = False) -> str:
    """A whole document. `body` is markup; `living`: its own inline scripts may run."""
    scripts = "script-src 'unsafe-inline' 'unsafe-eval'; " if living else ""
    policy = (
        f"default-src 'none'; {scripts}style-src 'unsafe-inline'; img-src data:; "
        "form-action 'none'; base-uri 'none'"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(line(title))}</title>'
        f"<style>{_style(palette)}</style>{embed.script(manifest)}</head><body>{body}</body></html>"
    )


def _style(palette: Palette) -> str:
    return f"""
:root {{ color: {palette.text}; background: {palette.background}; font: 15px/1.5 system-ui, sans-serif; }}
body {{ margin: 0; }}
main {{ max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }}
h1 {{ font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; }}
h2 {{ font-size: 1.15rem; margin: 2.5rem 0 .5rem; }}
h1, h2, p, td, th {{ overflow-wrap: anywhere; }}
p {{ white-space: pre-line; max-width: 46rem; unicode-bidi: plaintext; }}
figure {{ margin: 1rem 0 2rem; }}
figure svg, #chart svg {{ max-width: 100%; height: auto; }}
.faded, figcaption, summary {{ color: {palette.faded}; font-size: .87rem; }}
.lead {{ font-size: 1.1rem; border-left: 4px solid {palette.primary}; padding: .25rem 0 .25rem 1rem; }}
th {{ overflow-wrap: break-word; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: start; min-width: 4.5rem; padding: .3rem .9rem .3rem 0;
  border-bottom: 1px solid {palette.grid}; vertical-align: top; white-space: pre-line; }}
tr.marked td {{ background: {palette.panel}; }}
tr.marked td:first-child {{ font-weight: 600; }}
@media print {{ main {{ max-width: none; padding: 0; }} h2 {{ break-after: avoid; }}
  figure, tr {{ break-inside: avoid; }} details {{ display: none; }} }}
"""
