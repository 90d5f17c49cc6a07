from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from tests.hosts.adapter import Host
from tests.oracle import flush_all
from workflows_tasks.capture import installation
from workflows_tasks.comparison import audit
from workflows_tasks.models import CHANGES
from workflows_tasks.tick import tick

Age = Callable[[float], None]


@pytest.fixture
def sound(live: Host) -> Host:
    """A host of which nothing is wrong: captured, flushed, ticked, audited."""
    installation.install()
    flush_all()
    tick()
    audit.step()
    flush_all()
    return live


@pytest.fixture
def run(sound: Host) -> Any:
    """A run whose rows are written."""
    made = sound.make_run(workspace=sound.make_workspace(), workflow=sound.make_workflow(), user=sound.make_user())
    flush_all()
    return made


@pytest.fixture
def wait(sound: Host) -> Age:
    """``wait(seconds)``: what is in the change log has waited so long."""

    def aged(seconds: float) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f'UPDATE "{CHANGES}" SET at = at - make_interval(secs => %s)', [seconds])

    return aged
