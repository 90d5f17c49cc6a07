"""Host projects of different shapes: the same tests run against each.

``platform``  the demo's models: integer keys, a user that is a column, two hops, ``auto_now``
``library``   UUID run, slug workspace, 16-bit workflow, a user that is a foreign key, one hop, nothing nullable
``deep``      text run that is a multi-table child, workspace by a unique column, decimal workflow, three hops,
              UUID user, no time zones, models that were created and renamed by later migrations

The settings module says which is under test, so one pytest process tests one host.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Final

from tests.hosts.adapter import Host

NAMES: Final = ("platform", "library", "deep")


def settings_module(name: str) -> str:
    return f"{__name__}.{name}.settings"


def current() -> Host:
    """The host under test."""
    package = os.environ["DJANGO_SETTINGS_MODULE"].rpartition(".")[0]
    found: Host = import_module(f"{package}.adapter").HOST
    return found
