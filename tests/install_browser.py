"""Make sure a Chromium is there for the browser tests: the system's, else apt's, else Playwright's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of a system browser, or None."""
    mac = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    return found or (mac if os.path.exists(mac) else None)


def apt_install() -> bool:
    """Install Debian's chromium when apt and the right to use it are there."""
    if not shutil.which("apt-get"):
        return False
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if prefix and not shutil.which("sudo"):
        return False
    steps = (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"])
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet = {"env": environment, "stdout": subprocess.DEVNULL}
    return all(subprocess.run([*prefix, *step], **quiet).returncode == 0 for step in steps)


def playwright_install() -> bool:
    return subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]).returncode == 0


def main() -> None:
    if find() or (apt_install() and find()) or playwright_install():
        return
    raise SystemExit("no Chromium could be found or installed: install one, then run make test again")


if __name__ == "__main__":
    main()
