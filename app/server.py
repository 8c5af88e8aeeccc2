"""Server: what lives as long as the web process. Store open and up to date, worker supervised.

Routes of Streamlit answer to these headers too. `on_error` keeps stack traces out of the browser.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import streamlit as st
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moe_core.errors import MoEScopeError
from moe_core.jobs.supervisor import supervise

_POLICY = (
    "default-src 'self' data: blob:",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Streamlit's loader, and Vega's expressions
    "style-src 'self' 'unsafe-inline'",
    "connect-src 'self' ws: wss:",
    "frame-ancestors 'self'",
    "object-src 'none'",
)
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": "; ".join(_POLICY).encode(),
}


@asynccontextmanager
async def lifespan(_app: Any) -> AsyncIterator[dict[str, Any]]:
    """Open the store, take in what finished meanwhile, and look after the worker until the end."""
    from app import data  # its caches want a running Streamlit

    try:
        opened = await anyio.to_thread.run_sync(data.door)
        await anyio.to_thread.run_sync(_settle)
        async with supervise(opened.settings):
            yield {}
    except MoEScopeError as error:
        print(f"MoEScope cannot start: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # an exception here would bury the sentence under three frameworks' stack traces


def _settle() -> None:
    """Load what the pages need before the first visitor asks, and keep the collector out of it.

    Half a million objects of imported modules never die; walking them at each full collection takes 100 ms
    of every rerun (`runner.postScriptGC` is off for the same reason).
    """
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in ("__init__", "main", "server"):
            import_module(f"app.{path.stem}")
    gc.collect()
    gc.freeze()


class SecurityHeaders:
    """Adds `HEADERS` to every HTTP answer: nothing is loaded from, or sent to, another machine."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


MIDDLEWARE = [Middleware(SecurityHeaders)]


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
