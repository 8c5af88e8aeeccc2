"""Make sure a Chromium is there for the browser tests: the system's, else apt's, else Playwright's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOCK_S = 300  # apt waits this long for another apt to finish
TRIES = 3  # a mirror that answers late is asked again
TAIL = 40  # lines of a failed command's output that are worth showing


class Attempt(NamedTuple):
    """One way to get a browser: whether it did, and in a few words why not."""

    done: bool
    why: str = ""


def find() -> str | None:
    """Path of a system browser, or None."""
    mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return found or (mac if os.path.exists(mac) else None)


def apt_install() -> Attempt:
    """Install Debian's chromium when apt and the right to use it are there."""
    if not shutil.which("apt-get"):
        return Attempt(False, "there is no apt-get")
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and not shutil.which("sudo"):
        return Attempt(False, "apt-get needs root and there is no sudo")
    apt = [
        *prefix,
        "apt-get",
        "-qq",
        "-o",
        f"DPkg::Lock::Timeout={LOCK_S}",
        "-o",
        f"Acquire::Retries={TRIES}",
    ]
    updated = command([*apt, "update"])  # lists that could not be renewed may still name the package
    installed = command([*apt, "install", "-y", "--no-install-recommends", "chromium"])
    if installed.done:
        return Attempt(find() is not None, "apt-get installed chromium, but no browser is on the path")
    return Attempt(False, "; ".join(step.why for step in (updated, installed) if not step.done))


def playwright_install() -> Attempt:
    """Playwright's own browser, for systems without apt."""
    return command([sys.executable, "-m", "playwright", "install", "chromium"])


def command(words: list[str]) -> Attempt:
    """Run a command; quiet when it succeeds, its last lines on the screen when it does not."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    ended = subprocess.run(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if ended.returncode == 0:
        return Attempt(True)
    called = " ".join(words)
    print(f"$ {called}", *ended.stdout.splitlines()[-TAIL:], sep="\n", file=sys.stderr)
    return Attempt(False, f"'{called}' ended with {ended.returncode}")


def install(ways: tuple[Callable[[], Attempt], ...]) -> list[str]:
    """Try the ways in turn until one succeeds; why each failed when none did, else nothing."""
    failures = []
    for way in ways:
        attempt = way()
        if attempt.done:
            return []
        failures.append(attempt.why)
    return failures


def main() -> None:
    if find():
        return
    print("Installing a browser for the browser tests ...", flush=True)
    if failures := install((apt_install, playwright_install)):
        raise SystemExit(
            f"No Chromium was found or could be installed ({'; '.join(failures)}): "
            "install one, then run make test again."
        )


if __name__ == "__main__":
    main()
