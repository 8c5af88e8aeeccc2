"""Take the pictures of the README again: `python -m docs.pictures`. A real browser, 1440 px, light.

Needs requirements-dev.txt and a Chromium (`python tests/install_browser.py`). Two minutes.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
ROOT = HERE.parent
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
WIDE, HIGH = 1440, 1180
MOST = 250_000  # bytes of a picture
SHOWN = {
    "overview": "",
    "routing": "routing",
    "economics": "economics?architecture=Mixtral-8x7B",
    "decide": "decide?architecture=Mixtral-8x7B",
    "compare": "compare?a=architecture%3DMixtral-8x7B%26batch%3D4&b=architecture%3DLlama-2-70B%26batch%3D4"
    "&c=architecture%3DQwen3-30B-A3B%26batch%3D4",
}
RUNNING = ("Running here now", "Waiting to run here", "is starting", "Asking")


def main() -> int:
    """Take all of them, or those named on the command line."""
    names = sys.argv[1:] or list(SHOWN)
    with tempfile.TemporaryDirectory() as state, serve(Path(state)) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        context = browser.new_context(viewport={"width": WIDE, "height": HIGH}, color_scheme="light")
        for name in names:
            page = context.new_page()
            page.goto(f"{address}/{SHOWN[name]}")
            settle(page)
            data = small(page.screenshot())
            (HERE / f"{name}.png").write_bytes(data)
            print(f"docs/{name}.png  {len(data):,} bytes")
            page.close()
        browser.close()
    return 0


def settle(page: Page, patience_s: float = 400) -> None:
    """Until nothing runs or changes for three seconds. What failed on a busy machine is asked again."""
    page.get_by_role("heading", level=1).wait_for(timeout=60_000)
    until, same, last = time.monotonic() + patience_s, 0, ""
    while time.monotonic() < until and same < 6:
        page.wait_for_timeout(500)
        text = page.get_by_test_id("stMain").inner_text()
        if "This run failed" in text:
            page.get_by_role("button", name="Run it again").click()
            page.wait_for_timeout(3_000)
            continue
        busy = page.get_by_test_id("stSkeleton").count() or any(word in text for word in RUNNING)
        same = same + 1 if text == last and not busy else 0
        last = text
    if same < 6:
        raise SystemExit(f"{page.url} does not stand still: try again when the machine is idle")
    page.mouse.move(WIDE - 2, HIGH - 2)
    page.wait_for_timeout(1_000)


def small(data: bytes) -> bytes:
    """A palette of 256 colours, or fewer, until it is small enough."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    for colours in (256, 128, 64, 32):
        sink = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(sink, "PNG", optimize=True)
        if sink.tell() <= MOST:
            return sink.getvalue()
    raise SystemExit(f"a picture of {sink.tell():,} bytes: must be at most {MOST:,}")


def chromium() -> str | None:
    """The system's, as the browser tests find it; None lets Playwright use its own."""
    sys.path.insert(0, str(ROOT))
    from tests.install_browser import find

    return find()


@contextmanager
def serve(state: Path) -> Iterator[str]:
    """A dashboard of its own, worker included, that nobody else uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "MOE_DATA_DIR": str(state)}
    command = [sys.executable, "-m", "moe_core", "serve", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


if __name__ == "__main__":
    sys.exit(main())
