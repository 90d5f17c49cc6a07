"""Moments that Python cannot hold stop nobody else's page, flush or comparison."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DataError, connection

from tests.hosts.adapter import Host
from tests.oracle import flush_all
from workflows_tasks import recent_workflows
from workflows_tasks.comparison.compare import compare
from workflows_tasks.projection.sql import EVERYWHERE

pytestmark = pytest.mark.host_independent


@pytest.mark.parametrize("moment", ["infinity", "20000-01-01", "0044-03-15 BC", "9999-12-31 23:59:59.999999+00"])
def test_only_the_page_that_shows_it_is_touched(live: Host, moment: str) -> None:
    here, there = live.make_workspace(), live.make_workspace()
    user, workflow = live.make_user(), live.make_workflow()
    odd = live.make_run(workspace=here, workflow=live.make_workflow(), user=user)
    for workspace in (here, there):
        live.make_run(workspace=workspace, workflow=workflow, user=user)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE bots_savedrun SET updated_at = %s::timestamptz WHERE id = %s", [moment, odd.pk])
    flush_all()
    assert compare(EVERYWHERE) == []
    for fresh in (False, True):
        assert len(list(page(there, fresh=fresh))) == 1
        try:
            shown = list(page(here, fresh=fresh))
        except DataError:
            assert not moment.startswith("9999")
        else:
            assert len(shown) == 2
    odd.delete() if moment.startswith("9999") else type(odd).objects.filter(pk=odd.pk).delete()
    flush_all()
    assert len(list(page(here, fresh=False))) == 1


def page(workspace: Any, *, fresh: bool) -> Any:
    return recent_workflows(workspace, fresh=True) if fresh else recent_workflows(workspace)
