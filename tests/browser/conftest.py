"""A real browser on a real server: system Chromium, a private data directory, a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from moe_core.settings import ROOT, Settings
from tests import synthetic
from tests.asked import ASKED, asked
from tests.install_browser import find

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_S = 600  # for a server to answer or a page to be drawn: one core, and that busy
SPECS = (ASKED, asked(batch=2), asked(experts=32), asked(lab="topk_sweep"))


class Server(NamedTuple):
    """A running dashboard: where it listens, and its data directory."""

    address: str
    data_dir: Path


@contextmanager
def serve(data_dir: Path, worker: str) -> Iterator[Server]:
    """Start the dashboard as `make app` does, and end it."""
    port = _free_port()
    environment = {**os.environ, "MOE_DATA_DIR": str(data_dir), "MOE_WORKER": worker}
    command = [sys.executable, "-m", "moe_core", "serve", "--port", str(port)]
    log = (data_dir.parent / f"{data_dir.name}.log").open("wb")
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/_stcore/health", process, Path(log.name))
        yield Server(address, data_dir)
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer after {PATIENCE_S} s: {log.read_text(errors='replace')}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A dashboard over synthetic runs; no worker."""
    data_dir = tmp_path_factory.mktemp("browser") / "state"
    settings = Settings(data_dir=data_dir).prepare()
    for seed, spec in enumerate(SPECS):
        synthetic.write_bundle(settings.runs_dir, spec, seed=seed)
    with serve(data_dir, "external") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_S * 1000)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=find(), args=list(ARGUMENTS))
        yield found
        found.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page and wait until it stands still: `visit(server, "routing", theme="dark", width=900)`."""
    contexts = []

    def go(server: Server, path: str = "", theme: str = "light", width: int = 1440) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=theme)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.goto(f"{server.address}/{path}")
        settle(page)
        return page

    yield go
    for context in contexts:
        context.close()


def settle(page: Page) -> None:
    """Wait until the script has run, every chart is drawn, and nothing moves from one frame to the next."""
    page.wait_for_selector("[data-testid=stMain] h1")
    page.wait_for_function(STILL)


# Vega lays out once more when its container has its width: boxes and pictures must be the same in ten
# frames one after the other, however long a frame takes here.
STILL = """() => new Promise(done => {
    const drawn = () => !document.querySelector('[data-testid=stStatusWidget], [data-stale=true]')
        && document.querySelector('[data-testid=stMain] h1')
        && [...document.querySelectorAll('[data-testid=stVegaLiteChart]')]
           .every(chart => chart.querySelector('svg, canvas'));
    const box = one => { const at = one.getBoundingClientRect();
        return [at.x, at.y, at.width, at.height, one.innerHTML.length].join(); };
    const seen = 'h1, [data-testid=stVegaLiteChart] :is(svg, canvas)';
    const shape = () => [...document.querySelectorAll(seen)].map(box).join(';');
    let before = null, same = 0;
    const look = () => {
        if (!drawn()) return done(false);
        const now = shape();
        same = now === before ? same + 1 : 0;
        before = now;
        same >= 10 ? done(true) : requestAnimationFrame(look);
    };
    look();
})"""
