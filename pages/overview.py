"""Overview: dense or mixture, here? One answer that follows the sidebar, four numbers, routing and memory."""

from app import live, panels, sidebar
from app.decide import frames as decide_frames
from app.decide import view as decide_view
from app.overview import view

scenario = sidebar.current()
answer = live.follow(scenario.run_spec())
ruling = decide_view.ask(scenario)
if ruling:  # true for the load it was computed with: never dimmed
    panels.lead(decide_view.sentence(ruling), decide_view.source(ruling))
    view.strip(ruling)
    panels.numbers(decide_view.numbers(ruling))
left, right = panels.pair()
with left:
    live.strip(answer, timed=False)
    if answer.routing:
        with live.routing(answer):
            view.recorded(scenario, answer.routing)
if ruling:
    with right:
        view.memory(ruling)
    below, beside = panels.pair()
    with below:
        knob = next(iter(decide_frames.knob_names(ruling)))
        panels.show(
            decide_frames.curve(ruling, knob), "margin", decide_view.source(ruling), caveat="full size"
        )
    with beside:
        decide_view.card(ruling)
view.onward()
if answer.run:
    live.pressure(answer)
    with live.evidence(answer):
        view.measured(answer.run)
