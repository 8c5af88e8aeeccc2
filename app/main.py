"""MoEScope's entry point: the table of pages, and nothing else.

`streamlit run app/main.py` finds `app` below by reading this file, imports it as a module named `main`
and serves it with uvicorn; the app then runs this same file, as `__main__`, once for each rerun.
"""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # streamlit puts only app/ there
    sys.path.insert(0, str(ROOT))

PAGES = {
    # file        title       icon                      what it answers
    "overview": ("Overview", ":material/balance:", "Dense or mixture, for this work on this machine?"),
    "decide": ("Decide", ":material/rule:", "Which one, why, and what would change it?"),
    "compare": ("Compare", ":material/compare_arrows:", "How do up to four scenarios differ?"),
    "reviews": ("Reviews", ":material/gavel:", "What did we decide, and why?"),
    "routing": ("Routing", ":material/account_tree:", "Who does the work, and is it fair?"),
    "memory": ("Memory", ":material/memory:", "Does it fit, and what fills it?"),
    "economics": ("Economics", ":material/payments:", "What does a token cost?"),
    "speed": ("Speed", ":material/speed:", "How fast on this device: is it the architecture or the code?"),
    "balancing": (
        "Balancing",
        ":material/equalizer:",
        "What keeps the experts evenly used, and what is it worth?",
    ),
    "conversion": (
        "Conversion",
        ":material/transform:",
        "What becomes of a dense model that is made a mixture?",
    ),
    "experiments": ("Experiments", ":material/science:", "What can be trained here, and what came of it?"),
    "claims": ("Claims", ":material/fact_check:", "What do the documents say, and is it so?"),
    "accuracy": ("Accuracy", ":material/target:", "Why believe the model?"),
    "architectures": ("Architectures", ":material/grain:", "What exists, exactly?"),
    "runs": ("Runs", ":material/history:", "What was run, and how do two runs differ?"),
}
# The first page of each group of the navigation.
FIRST = {"overview": "Answer", "routing": "Why", "balancing": "Learn", "accuracy": "Evidence"}


def page_table() -> None:
    from app import shell

    groups: dict[str, list[object]] = {}
    for name, (title, icon, question) in PAGES.items():
        if name in FIRST:
            group = groups.setdefault(FIRST[name], [])
        file = ROOT / "pages" / f"{name}.py"
        group.append(st.Page(file, title=title, icon=icon, help=question, default=name == "overview"))
    shell.run(groups)


if __name__ == "__main__":
    page_table()
else:
    from app import server

    app = st.App(
        __file__, lifespan=server.lifespan, middleware=server.MIDDLEWARE, on_script_error=server.on_error
    )
