"""One project, made by following docs/install.md; the other pages go on from copies of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import Page
from tests.docs.reader import Reader

Host = Callable[..., Reader]


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """A directory that every user may read: PgBouncer, like PostgreSQL, does not run as root."""
    directory = Path(tempfile.mkdtemp(prefix="recent-workflows-docs-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def installed(room: Path) -> Iterator[Reader]:
    """The project at the end of the page; its worker is stopped."""
    with Reader(room / "install") as reader:
        reader.follow(Page.read("install"))
        reader.stop("")
        yield reader


@pytest.fixture
def host(installed: Reader, room: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    """``host()``: a copy of that project, with a database and a Redis of its own; ``broker``: another than Redis."""
    with ExitStack() as stack:

        def copied(*, broker: str | None = None) -> Reader:
            name = "".join(c if c.isalnum() else "-" for c in request.node.name)
            return stack.enter_context(Reader(room / name, base=installed, broker=broker))

        yield copied
