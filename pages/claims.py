"""Claims: what do the documents say, and is it so? Counts first, then corrections, rows, one row whole."""

from app import asked, panels
from app.claims import view

panels.lead(view.sentence(), view.source())
panels.numbers(view.numbers())
view.main()

corrections, rows, one = asked.tabs("ledger", *view.TABS)
if corrections.open:
    with corrections:
        view.corrections()
if rows.open:
    with rows:
        view.rows()
if one.open:
    with one:
        view.one()
