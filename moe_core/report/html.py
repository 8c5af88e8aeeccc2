"""HTML report of a review: one file, no script, no request; it prints, and any browser opens it."""

from __future__ import annotations

from moe_core.report.archive import colophon, picture
from moe_core.report.blocks import Block, Grid, Words
from moe_core.report.formats import table
from moe_core.report.markup import page, text
from moe_core.report.palette import PALETTES
from moe_core.report.plots import Plot
from moe_core.report.story import Story


def html(story: Story, theme: str = "light") -> bytes:
    """The whole story as one document."""
    lead = f'<p class="lead">{text(story.answer)}</p>' if story.answer else ""
    question = f"<p>{text(story.question)}</p>" if story.question else ""
    blocks = "".join(_block(block, story, theme) for block in story.blocks)
    title = f'<h1 dir="auto">{text(story.title)}</h1>'
    body = f"<main>{title}{question}{lead}{blocks}{colophon(story.manifest)}</main>"
    return page(story.title, body, story.manifest, PALETTES[theme]).encode()


def _block(block: Block, story: Story, theme: str) -> str:
    if isinstance(block, Plot):
        rows = table(block.figure.data)
        drawn = picture(block.figure, story.manifest.of(block.origins), theme)
        return f"{drawn}<details><summary>Data: {text(block.unit)}</summary>{rows}</details>"
    heading = f'<h2 dir="auto">{text(block.heading)}</h2>'
    if isinstance(block, Words):
        parts = (part for part in block.text.split("\n") if part.strip())
        return heading + "".join(f'<p dir="auto">{text(part)}</p>' for part in parts)
    return heading + _grid(block)


def _grid(block: Grid) -> str:
    head = "".join(f'<th dir="auto">{text(cell)}</th>' for cell in block.head)
    rows = "".join(
        f"<tr{' class=marked' if at in block.marked else ''}>"
        + "".join(f'<td dir="auto">{text(cell)}</td>' for cell in row)
        + "</tr>"
        for at, row in enumerate(block.rows)
    )
    top = f"<thead><tr>{head}</tr></thead>" if any(block.head) else ""
    return f'<div class="wide"><table>{top}<tbody>{rows}</tbody></table></div>'
