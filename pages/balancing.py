"""Balancing: what keeps the experts evenly used, and what is it worth? Live while it trains."""

from app import asked, panels, sidebar
from app.balancing import view
from app.experiments import view as panel

scenario = sidebar.current()
stage = view.stage(scenario)
if stage is None:
    view.nothing()
else:
    panels.lead(view.sentence(stage), panel.source(stage.run))
    panels.numbers(view.numbers(scenario, stage))
view.follow()
if stage is not None:
    view.main(stage)
else:
    view.start()

names = ("Your strategies", "The load, step by step", "What it costs", "Two ways to fail")
labs = {"Auxiliary loss": "auxiliary", "Bias": "bias", "Gates": "gates", "Shared expert": "shared_expert"}
labs["Below 1"] = "below_one"
own, load, price, failures, *others = asked.tabs("balance", *names, *labs)
if own.open:
    with own:
        view.own(scenario)
for tab, draw in ((load, view.load), (failures, view.failures)):
    if tab.open:
        with tab:
            draw(stage) if stage else view.nothing_there()
if price.open:
    with price:
        view.price(scenario, stage) if stage else view.nothing_there()
for tab, lab in zip(others, labs.values(), strict=True):
    if tab.open:
        with tab:
            panel.panel(lab)
