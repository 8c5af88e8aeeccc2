"""The web process: what it starts with, what it refuses, what it adds to every answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app import server
from benchmarks import load
from moe_core.settings import ROOT, Settings
from moe_core.store.db import Store


@pytest.mark.slow
def test_a_second_web_process_is_told_so_in_one_sentence(settings: Settings) -> None:
    store = Store.open(settings)
    try:
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            str(ROOT / "app" / "main.py"),
            "--server.port",
            "0",
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    finally:
        store.close()
    assert done.returncode == 1
    assert f"MoEScope cannot start: {settings.database} is in use by process {os.getpid()}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_web_process_never_imports_torch() -> None:
    """Start-up, memory and the timings depend on it (HOUSE.md, two processes)."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from app import data, live, panels, server, shell, sidebar\n"
        "from app.overview import view\n"
        "from app.routing import view\n"
        "from app.runs import view\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('torch', 'transformers')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_answers_forbid_other_origins() -> None:
    policy = server.HEADERS[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "ws:" not in policy
    assert server.HEADERS[b"x-content-type-options"] == b"nosniff"


def test_sockets_go_to_the_host_that_was_asked_and_nowhere_else() -> None:
    policy = dict(server._headers("[::1]:8501"))[b"content-security-policy"].decode()
    assert "connect-src 'self' ws://[::1]:8501 wss://[::1]:8501;" in policy
    for host in ("a b", "localhost; script-src *", "localhost,evil.example", "", None):
        assert dict(server._headers(host)) == server.HEADERS


HERE = "localhost:8501"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (HERE, None),
        (HERE, f"http://{HERE}"),
        ("LocalHost:8501", "http://localhost:8501"),
        ("localhost.:8501", None),
        ("localhost:9000", "http://localhost:9000"),  # a forwarded port
        ("127.0.0.1", "https://127.0.0.1"),
        ("[::1]:8501", "http://[::1]:8501"),
    ],
)
def test_loopback_names_are_welcome(host: str, origin: str | None) -> None:
    assert server.refusal([host], [origin] if origin else [], ("127.0.0.1", 8501)) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", None),
        ("evil.example:8501", "http://evil.example:8501"),
        (HERE, "http://evil.example"),
        (HERE, "http://localhost:3000"),  # another program on this machine
        (HERE, "http://localhost:8501.evil.example"),
        (HERE, "null"),
        ("localhost.evil.example", None),
        ("localhost@evil.example", None),
        ("127.0.0.1.nip.io", None),
        ("localhost:80:80", None),
        ("localhost/evil.example", None),
        ("[::1", None),
        ("", None),
        ("192.168.0.7:8501", "http://192.168.0.7:8501"),
    ],
)
def test_other_names_and_origins_are_not(host: str, origin: str | None) -> None:
    assert server.refusal([host], [origin] if origin else [], ("127.0.0.1", 8501))


def test_one_host_header_and_no_more() -> None:
    assert server.refusal([], [], None)
    assert server.refusal([HERE, "evil.example"], [], None)


def test_names_below_a_star(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"server.allowedHosts": ["*.lab.example"], "server.corsAllowedOrigins": ["https://moe.example"]}
    monkeypatch.setattr("streamlit.get_option", options.__getitem__)
    assert server.refusal(["moe.lab.example"], ["https://moe.example"], None) is None
    assert server.refusal(["lab.example"], [], None)
    assert server.refusal(["evillab.example"], [], None)
    options["server.allowedHosts"] = []  # started from elsewhere, without our config.toml
    assert server.refusal([HERE], [], None) is None
    assert server.refusal(["moe.lab.example"], [], None)


ROUTES = (
    "/",
    "/_stcore/health",
    "/_stcore/host-config",
    "/_stcore/upload_file/a/b",
    "/media/x.png",
    "/memory",
)


@pytest.mark.slow
def test_a_server_answers_to_its_own_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handshakes and requests as a browser sends them, on the wire, to the server that `make app` starts."""
    monkeypatch.delenv("STREAMLIT_SERVER_ALLOWED_HOSTS", raising=False)
    with load.served() as port:
        for name in (
            f"localhost:{port}",
            f"127.0.0.1:{port}",
            f"[::1]:{port}",
            "localhost:9000",
            "localhost",
        ):
            assert handshake(port, name, f"http://{name}") == 101, name
        assert handshake(port, f"localhost:{port}", None) == 101
        for name in (f"evil.example:{port}", "evil.example", f"localhost.evil.example:{port}"):
            assert handshake(port, name, f"http://{name}") == 403, name
            assert handshake(port, name, None) == 403, name
        assert handshake(port, f"localhost:{port}", "http://evil.example") == 403
        assert handshake(port, f"localhost:{port}", "http://localhost:3000") == 403
        assert handshake(port, None, None) in (400, 403)
        for route in ROUTES:
            assert status(port, route, f"localhost:{port}") in (200, 401, 403, 404, 405), route
            refused = answer(port, route, "evil.example")
            assert refused.startswith(b"HTTP/1.1 403"), route
            assert b"MoEScope does not answer to the name evil.example" in refused
            assert f"open http://localhost:{port}".encode() in refused
            assert b"nosniff" in refused
        assert status(port, "/", f"localhost:{port}") == 200


@pytest.mark.slow
def test_an_operator_adds_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLIT_SERVER_ALLOWED_HOSTS", "localhost 127.0.0.1 moe.example.com")
    with load.served() as port:
        assert handshake(port, "moe.example.com", "https://moe.example.com") == 101
        assert status(port, "/", "moe.example.com") == 200
        assert handshake(port, f"localhost:{port}", f"http://localhost:{port}") == 101
        assert handshake(port, "evil.example", "http://evil.example") == 403
        assert handshake(port, f"[::1]:{port}", None) == 403  # the list is theirs, whole


def handshake(port: int, host: str | None, origin: str | None) -> int:
    """Status of a websocket handshake with the dashboard."""
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: streamlit\r\n"
    )
    return int(answer(port, "/_stcore/stream", host, upgrade, origin).split()[1])


def status(port: int, route: str, host: str) -> int:
    return int(answer(port, route, host).split()[1])


def answer(port: int, route: str, host: str | None, extra: str = "", origin: str | None = None) -> bytes:
    """What comes back for one GET, up to 64 kB of it."""
    lines = f"GET {route} HTTP/1.1\r\n" + (f"Host: {host}\r\n" if host is not None else "")
    lines += (f"Origin: {origin}\r\n" if origin else "") + (extra or "Connection: close\r\n") + "\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(lines.encode())
        data = wire.recv(65_536)
        while not extra and (more := wire.recv(65_536)):
            data += more
        return data


def test_icons_are_local_files() -> None:
    from app import shell

    assert {path.name for path in Path(shell.STATIC).iterdir()} == {"favicon.png", "logo.svg", "style.css"}


def test_pages_are_loaded_before_the_first_visitor() -> None:
    """A page's modules stand in its own room: a walk that stays on the top floor would miss them all."""
    found = server.modules()
    rooms = {path.stem for path in (ROOT / "pages").glob("*.py")}
    assert {f"app.{room}.view" for room in rooms} <= set(found)
    assert not {"app.main", "app.server"} & set(found)
