"""A browser, and the demo host served to it.

Playwright drives Debian's Chromium where it is installed, else the one that Playwright has downloaded. ``SCREENSHOTS``
in the environment names a directory for pictures of every page.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.db import connections

from tests.browser.visitor import Visitor
from tests.hosts.adapter import Host

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ALONE = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
"""A browser that talks to nobody but the page, and may be started by root."""

Visit = Callable[..., Visitor]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not of the whole session: while Playwright's synchronous API is in use, this thread is an event loop's, in which
    Django refuses to query unless it is told that nobody else is waiting, and has other database connections."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as error:
        _do_without(f"{error}; pip install -r requirements/dev.txt")
    with pytest.MonkeyPatch.context() as environment, sync_playwright() as playwright:
        environment.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        installed = next(filter(None, map(shutil.which, CHROMIUM)), None)
        if not installed and not Path(playwright.chromium.executable_path).exists():
            _do_without("no browser; on Debian: apt-get install chromium, otherwise: playwright install chromium")
        launched = playwright.chromium.launch(executable_path=installed, headless=True, args=list(ALONE))
        yield launched
        launched.close()
        connections.close_all()


def _do_without(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def address(live: Host) -> Iterator[str]:
    """The demo's pages, served from this process, so that they see this test's database and settings."""
    server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
    server.daemon_threads = False  # closing it then waits for them, and they close their database connections
    server.set_app(get_wsgi_application())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    """``visit(path, color_scheme="dark", java_script_enabled=False)``: a visitor, who sees no error."""
    visitors: list[Visitor] = []

    def come(path: str, **options: Any) -> Visitor:
        visitors.append(Visitor(browser, address, options))
        visitors[-1].page.goto(path)
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.leave()
