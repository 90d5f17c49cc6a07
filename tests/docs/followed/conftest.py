"""One project, made by following docs/install.md; the other pages begin with copies of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import page
from tests.docs.reader import Reader

Copy = Callable[..., Reader]


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """A directory that every user may read: PgBouncer, like PostgreSQL, does not run as root."""
    directory = Path(tempfile.mkdtemp(prefix="recent-workflows-docs-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def installed(room: Path) -> Iterator[Reader]:
    """The project at the end of the page, with its workers stopped."""
    with Reader(room / "install") as reader:
        reader.follow(page("install"))
        reader.stop_services()
        yield reader


@pytest.fixture
def copy(installed: Reader, room: Path, request: pytest.FixtureRequest) -> Iterator[Copy]:
    """``copy(broker=…)``: a reader with a copy of that project, and a database and a Redis of its own."""
    with ExitStack() as stack:

        def copied(*, broker: str = "") -> Reader:
            name = "".join(char if char.isalnum() else "-" for char in request.node.name)
            return stack.enter_context(Reader(room / name, installed, broker))

        yield copied
