"""Server: what lives as long as the web process. Store open and up to date, worker supervised.

Routes of Streamlit answer to these headers too, and only under the names of `server.allowedHosts`.
`on_error` keeps stack traces out of the browser.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import streamlit as st
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moe_core.errors import MoEScopeError
from moe_core.jobs.supervisor import HEAD_START_S, supervise
from moe_core.silicon import tables

_POLICY = (
    "default-src 'self' data: blob:",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Streamlit's loader, and Vega's expressions
    "style-src 'self' 'unsafe-inline'",
    "connect-src 'self'",  # sockets to this host too, by CSP 3; `_headers` names them for older browsers
    "frame-ancestors 'self'",
    "object-src 'none'",
)
_CSP = b"content-security-policy"
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
    b"referrer-policy": b"no-referrer",
    _CSP: "; ".join(_POLICY).encode(),
}


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[dict[str, Any]]:
    """Open the store, take in what finished meanwhile, and look after the worker until the end."""
    from app import data  # its caches want a running Streamlit

    try:
        opened = await anyio.to_thread.run_sync(data.door)
        await anyio.to_thread.run_sync(_settle)
        async with supervise(opened.settings, head_start_s=HEAD_START_S):
            yield {}
    except MoEScopeError as error:
        print(f"MoEScope cannot start: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # an exception here would bury the sentence under three frameworks' stack traces


def modules() -> list[str]:
    """Everything that a page may load: the rooms of the pages too, the entry point and this file apart."""
    here = Path(__file__).parent
    found = (path.relative_to(here.parent).with_suffix("") for path in sorted(here.rglob("*.py")))
    every = [".".join(path.parts) for path in found if path.name != "__init__"]
    return [name for name in every if name not in ("app.main", "app.server")]


def _settle() -> None:
    """Load what the pages need before the first visitor asks, and keep the collector out of it.

    Half a million objects of imported modules never die; walking them at each full collection takes 100 ms
    of every rerun (`runner.postScriptGC` is off for the same reason). What is kept of answers grows with use
    and dies late: it is walked a tenth as often as Python would.
    """
    for name in modules():
        import_module(name)
    tables.preload()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], 100)


class SecurityHeaders:
    """Adds `HEADERS` to every HTTP answer: nothing is loaded from, or sent to, another machine."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        extra = _headers(Headers(scope=scope).get("host"))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        await self.app(scope, receive, with_headers)


class OwnNames:
    """Refuses what was sent to a name that is not ours, or by a page of another origin.

    A page elsewhere may point its own name at 127.0.0.1 (DNS rebinding): its requests then reach us with
    that name as Host. Streamlit checks `server.allowedHosts` for its websocket only and lets every
    page of this machine in, whatever its port; here the same list guards every route, and an Origin
    must be ours, or one of `server.corsAllowedOrigins`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        problem = refusal(headers.getlist("host"), headers.getlist("origin"), scope["server"])
        if problem is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse(problem + "\n", status_code=403)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "name or origin not allowed"})


def refusal(
    hosts: Sequence[str], origins: Sequence[str], server: tuple[str, int | None] | None
) -> str | None:
    """Why a request with these headers is refused, in one sentence; None when it is welcome."""
    name = _name(hosts[0]) if len(hosts) == 1 else None
    if name is None:
        return "MoEScope needs one Host header that is a name, with or without a port."
    if not _named(name, st.get_option("server.allowedHosts") or LOOPBACK):
        port = f":{server[1]}" if server and server[1] else ""
        return (
            f"MoEScope does not answer to the name {name[:80]}: on its own machine open "
            f"http://localhost{port}; to be found by another name, it must be started with that name in "
            "STREAMLIT_SERVER_ALLOWED_HOSTS (see README)."
        )
    welcome = {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}
    welcome |= {origin.strip().lower() for origin in st.get_option("server.corsAllowedOrigins")}
    if all(origin.lower() in welcome for origin in origins):
        return None
    return f"MoEScope does not answer to pages of another origin ({origins[0][:80]})."


def _name(host: str) -> str | None:
    """The name in a Host header, without its port, in lower case; None if it is not one."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").rstrip(".").lower() if found else None


def _named(name: str, allowed: Sequence[str]) -> bool:
    """Streamlit's rule: `*` is every name, `*.example.com` every name below it."""
    patterns = [one.strip().lower().rstrip(".") for one in allowed]
    return any(one in ("*", name) or (one.startswith("*.") and name.endswith(one[1:])) for one in patterns)


def _headers(host: str | None) -> list[tuple[bytes, bytes]]:
    """`HEADERS`, with sockets to the host that was asked: 'self' does not mean them in every browser."""
    if host is None or _name(host) is None:
        return [*HEADERS.items()]
    policy = HEADERS[_CSP].replace(
        b"connect-src 'self'", f"connect-src 'self' ws://{host} wss://{host}".encode()
    )
    return [*{**HEADERS, _CSP: policy}.items()]


MIDDLEWARE = [Middleware(SecurityHeaders), Middleware(OwnNames)]


def on_error(error: Exception) -> bool:
    """One sentence for what a user can mend; a bug is named and logged. True: nothing more is shown."""
    if isinstance(error, MoEScopeError):
        st.error(str(error).replace("[", "\\[").replace("`", "'"), icon=":material/error:")
        return True
    logging.getLogger(__name__).error("a page failed", exc_info=error)
    st.error(
        f"This page failed with {type(error).__name__}. The server's log says where.",
        title="A bug in MoEScope",
        icon=":material/bug_report:",
    )
    return True
