"""The rules of the house, executable: which way imports point, where SQL lives, how large things grow."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for room in ("app", "moe_core", "pages") for path in (ROOT / room).rglob("*.py"))
HEAVY = {"torch", "transformers"}

# Modules under the path on the left must not import anything on the right.
FORBIDDEN = {
    "moe_core": {"streamlit", "app", "pages"},
    "pages": {"moe_core", "duckdb", "altair", "plotly", "pandas", *HEAVY},
    "app": {"duckdb", *HEAVY, "moe_core.nn", "moe_core.device", "moe_core.labs"},
    "moe_core/nn": {"moe_core.perf", "moe_core.store", "moe_core.jobs", "moe_core.runs", "duckdb"},
    "moe_core/dist": {
        *("moe_core.perf", "moe_core.silicon", "moe_core.store", "moe_core.jobs", "moe_core.runs"),
        *("moe_core.labs", "duckdb"),
    },
    "moe_core/perf": {
        *("moe_core.nn", "moe_core.store", "moe_core.jobs", "moe_core.runs", "moe_core.silicon", "duckdb"),
        *HEAVY,
    },
    "moe_core/silicon": {"moe_core.nn", "moe_core.store", "moe_core.jobs", "moe_core.runs", *HEAVY},
    "moe_core/store": {"moe_core.nn", "moe_core.perf", "moe_core.jobs", *HEAVY},
    "moe_core/report": {"moe_core.nn", "moe_core.jobs", *HEAVY},
    "moe_core/review.py": {"moe_core.perf", "moe_core.store", *HEAVY},
    "moe_core/claims": {
        *("moe_core.nn", "moe_core.labs", "moe_core.store", "moe_core.jobs", "moe_core.runs", "duckdb"),
        *("moe_core.scenario", "moe_core.decide", *HEAVY),
    },
    "moe_core/decide": {"moe_core.nn", "moe_core.store", *HEAVY},
    "moe_core/specs.py": {"moe_core.nn", "moe_core.perf", "moe_core.store", *HEAVY},
}
# Of the experiments, what has no torch and may be read by any process: their table, names, statistics.
LIGHT = {f"moe_core.labs.training.{name}" for name in ("table", "picks", "statistics")}
TELL_ERRORS = (
    *("moe_core/silicon/workshop/", "moe_core/cli/predict.py"),
    *("app/accuracy/", "app/economics/frames.py"),
)
# Class names that stand in two modules. The list shrinks: nothing is added.
TWO_MEANINGS = {"Asked", "Case", "Fact", "Factor", "Group", "Knob", "Number", "Row", "Subject"}
SQL = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|CREATE\s+TABLE|DELETE\s+FROM)\b", re.S)
FILE_LINES, PAGE_LINES = 500, 120
# A function has at most so many lines, its first and last counted; the first path that fits. To be lowered.
FUNCTION_LINES = {"": 39}


def imports(path: Path) -> set[str]:
    """Every module `path` names in an import, wherever in the file it stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_point_one_way(room):
    wrong = [
        f"{name(path)} imports {module}"
        for path in SOURCES
        if name(path) == room or name(path).startswith(room + "/")
        for module in imports(path)
        for package in FORBIDDEN[room]
        if inside(module, package) and not any(inside(module, light) for light in LIGHT)
    ]
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_what_any_process_may_read_of_the_experiments_has_no_torch():
    script = f"import sys, {', '.join(sorted(LIGHT))}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("page", sorted(path.stem for path in (ROOT / "pages").glob("*.py")))
def test_a_page_has_its_folder_and_its_charts_draw_without_streamlit(page):
    folder = ROOT / "app" / page
    assert (folder / "view.py").exists()
    drawing = [path for path in folder.glob("*.py") if "altair" in imports(path)]
    assert not [name(path) for path in drawing if "streamlit" in imports(path)]


def test_what_answers_never_imports_the_workshop():
    """`silicon/workshop` prepares tables and constants; beside itself only what tells its errors reads it."""
    wrong = [
        f"{name(path)} imports {module}"
        for path in SOURCES
        if not name(path).startswith(TELL_ERRORS)
        for module in imports(path)
        if inside(module, "moe_core.silicon.workshop")
    ]
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_pages_import_streamlit_and_app_only():
    allowed = sys.stdlib_module_names | {"streamlit", "app"}
    wrong = [
        f"{name(path)}: {module}"
        for path in SOURCES
        if name(path).startswith("pages/")
        for module in imports(path)
        if module.split(".")[0] not in allowed
    ]
    assert not wrong, wrong


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_at_once(path: Path, modules: Collection[str]) -> set[str]:
    """Modules of ours that importing `path` imports: not those for types, nor those inside functions."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}  # a module, or a name in one
            found |= {one if one in modules else node.module for one in whole}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return (found & set(modules)) - {module(path)}


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Strongly connected components of more than one node: each reaches all others and itself."""

    def beyond(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reached = {node: beyond(node) for node in graph}
    every = {frozenset(n for n in reached[node] if node in reached[n]) for node in graph}
    return [set(circle) for circle in every if circle]


def test_no_import_circles():
    modules = {module(path): path for path in SOURCES}
    found = circles({one: imported_at_once(path, modules) for one, path in modules.items()})
    assert not found, found


def test_a_circle_is_found_however_it_is_imported(tmp_path):
    file = tmp_path / "one.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nfrom app import two\nfrom app.three import name\n"
        "if TYPE_CHECKING:\n    import app.four\ntry:\n    import app.five\nexcept ImportError:\n    pass\n"
        "def late():\n    import app.six\n"
    )
    known = {f"app.{name}" for name in ("two", "three", "four", "five", "six")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "ROOT", tmp_path)
        assert imported_at_once(file, known) == {"app.two", "app.three", "app.five"}
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_the_web_process_never_loads_torch():
    script = (
        "import sys; import app.data, app.server, app.sidebar, app.panels;"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_sql_lives_in_the_store_and_beside_the_measured_tables():
    """The queue's own records are the one other table; they never meet the data."""
    allowed = ("moe_core/store/", "moe_core/silicon/", "moe_core/jobs/")
    wrong = [
        name(path)
        for path in SOURCES
        if not name(path).startswith(allowed)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    assert not wrong, wrong


def test_files_and_functions_stay_small():
    wrong = []
    for path in SOURCES:
        lines = len(path.read_text().splitlines())
        limit = PAGE_LINES if name(path).startswith("pages/") else FILE_LINES
        most = next(lines for room, lines in FUNCTION_LINES.items() if name(path).startswith(room))
        if lines > limit:
            wrong.append(f"{name(path)}: {lines} lines (at most {limit})")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                long = node.end_lineno - node.lineno + 1
                if long > most:
                    wrong.append(f"{name(path)}:{node.lineno} {node.name} has {long} lines (at most {most})")
    assert not wrong, "\n".join(wrong)


def test_one_class_name_has_one_meaning():
    """Those of `TWO_MEANINGS` are still to be renamed; a name that stands once must leave it."""
    homes: dict[str, set[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, set()).add(name(path))
    several = {one: sorted(paths) for one, paths in homes.items() if len(paths) > 1}
    assert not (new := {one: paths for one, paths in several.items() if one not in TWO_MEANINGS}), new
    assert not (gone := TWO_MEANINGS - set(several)), f"{gone} stand once now: take them off the list"


def test_every_module_says_what_it_is():
    wrong = [
        name(path)
        for path in SOURCES
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not wrong, wrong


def test_nothing_unpickles_or_trusts_remote_code():
    banned = re.compile(
        r"pickle\.load|trust_remote_code\s*=\s*True|torch\.load\((?!.*weights_only=True)|allow_pickle\s*=\s*True"
    )
    assert not [name(path) for path in SOURCES if banned.search(path.read_text())]


def test_every_page_is_in_the_table_and_every_row_has_its_page():
    table = ast.parse((ROOT / "app" / "main.py").read_text())
    pages = next(
        ast.literal_eval(node.value)
        for node in table.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PAGES"
    )
    assert set(pages) == {path.stem for path in (ROOT / "pages").glob("*.py")}


def test_every_command_is_documented_in_the_readme():
    from moe_core.cli import COMMANDS, called

    readme = (ROOT / "README.md").read_text()
    assert not [called(one) for one in COMMANDS if f"`{called(one)}`" not in readme]


def test_benchmark_results_carry_their_circumstances():
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        record = json.loads(path.read_text())
        text = json.dumps(record)
        for word in ("commit", "date", "python"):
            assert f'"{word}"' in text, f"{path.name} lacks {word}"


def test_requirements_are_pinned():
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                assert "==" in line, f"{file}: {line}"


def test_the_tree_stays_below_60_mb():
    """So that it can be handed to a machine with a GPU and no network (`make gpu`)."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout
    sizes = {name: (ROOT / name).stat().st_size for name in listed.split("\0") if (ROOT / name).is_file()}
    assert len(sizes) > 500
    assert sum(sizes.values()) < 60 * 10**6, sorted(sizes.items(), key=lambda item: -item[1])[:5]


def test_top_level_is_the_floor_plan():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    top = {line.split("/")[0] for line in tracked}
    rooms = {
        "app",
        "moe_core",
        "pages",
        "data",
        "tests",
        "benchmarks",
        ".streamlit",
        ".ci",
        "requirements.txt",
    }
    files = {"README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "Makefile", "pyproject.toml"}
    assert top <= rooms | files | {"requirements-dev.txt", ".gitignore", "docs"}, top
