"""Moments that Python cannot hold stop nobody else's page, flush or comparison."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import DataError, connection

from tests.hosts.adapter import Host
from tests.oracle import flush_all
from workflows_tasks import recent_workflows
from workflows_tasks.comparison.compare import compare
from workflows_tasks.projection.ranges import EVERYWHERE

pytestmark = pytest.mark.host_independent


@pytest.mark.parametrize("moment", ["infinity", "20000-01-01", "0044-03-15 BC", "9999-12-31 23:59:59.999999+00"])
def test_only_the_page_that_shows_it_is_touched(live: Host, moment: str) -> None:
    """It fails as the host's own read of that run does, and does not where that holds it."""
    here, there = live.make_workspace(), live.make_workspace()
    user, workflow = live.make_user(), live.make_workflow()
    odd = live.make_run(workspace=here, workflow=live.make_workflow(), user=user)
    for workspace in (here, there):
        live.make_run(workspace=workspace, workflow=workflow, user=user)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE bots_savedrun SET updated_at = %s::timestamptz WHERE id = %s", [moment, odd.pk])
    flush_all()
    assert compare(EVERYWHERE) == []
    held = error_of(lambda: type(odd).objects.get(pk=odd.pk))
    assert held is None or not moment.startswith("9999")
    for fresh in (False, True):
        assert len(page(there, fresh=fresh)) == 1
        assert error_of(partial(page, here, fresh=fresh)) == held
        assert held or len(page(here, fresh=fresh)) == 2
    type(odd).objects.filter(pk=odd.pk).delete()
    flush_all()
    assert len(page(here, fresh=False)) == 1


def error_of(read: Callable[[], Any]) -> type[Exception] | None:
    """What the driver raises for a moment that it cannot hold: psycopg a DataError, psycopg2 a ValueError as well."""
    try:
        read()
    except (DataError, ValueError) as error:
        return type(error)
    return None


def page(workspace: Any, *, fresh: bool) -> list[Any]:
    return list(recent_workflows(workspace, fresh=True) if fresh else recent_workflows(workspace))
