"""Ruled: a verdict goes into a review with its scenario, and is read there again."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import panels
from app.words import escape
from moe_core.report import argument
from moe_core.report.blocks import Grid, Words
from moe_core.report.decided import Decided, read
from moe_core.review import Saved

# -- into a review ---------------------------------------------------------------------------------


# -- out of it -------------------------------------------------------------------------------------


def source(found: Decided) -> tuple[panels.Source, str]:
    """Provenance of the chart of the factors, every kind of it said, and its caveat."""
    origins = argument.origins(found)
    kinds = [origin.kind for origin in origins]
    said = "; ".join(f"{origin.kind}: {origin.detail}" for origin in origins)
    return panels.Source("modelled", said), f"scores {' and '.join(kinds)}"


def told(saved: Saved) -> None:
    """The verdict of a review in words and tables, and what its exports carry."""
    found = read(saved.review.verdict)
    if found is None:
        st.caption(
            "No verdict is kept here yet: add the scenario from the Decide page, with the verdict on it."
        )
        panels.link("decide", "Decide")
        return
    for block in argument.blocks(found):
        if isinstance(block, Words):
            st.markdown(f"**{escape(block.heading)}**")
            for line in block.text.split("\n"):
                st.markdown(escape(line))
        elif isinstance(block, Grid):
            st.markdown(f"**{escape(block.heading)}**")
            frame = pd.DataFrame(list(block.rows), columns=list(block.head))
            st.table(frame.map(escape), border="horizontal", hide_index=True, alt=block.heading)
