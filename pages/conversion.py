"""Conversion: what becomes of a dense model that is made a mixture?"""

from app import asked, sidebar
from app.conversion import view
from app.experiments import view as panel

found = view.results()
view.answer(found)
view.main(found)

upcycling, dense, carving, drift = asked.tabs(
    "convert", "Upcycling", "Train dense, infer sparse", "Carving", "Drift after fine-tuning"
)
if upcycling.open:
    with upcycling:
        view.upcycling(found)
if dense.open:
    with dense:
        panel.panel("dense_training")
if carving.open:
    with carving:
        view.carving(sidebar.current())
if drift.open:
    with drift:
        panel.panel("fine_tuning")
