"""``recent_workflows()``: what it returns, and what it refuses."""

from __future__ import annotations

import pickle
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from tests.hosts.adapter import Host, moment
from tests.oracle import flush_all
from workflows_tasks import recent_workflows
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.models import WorkspaceRecentWorkflow


def test_newest_first_and_no_more_than_asked(live: Host) -> None:
    workspace, user = live.make_workspace(), live.make_user()
    runs = [
        live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user, used_at=moment(minute))
        for minute in (3, 1, 5, 2, 4)
    ]
    flush_all()
    newest_first = [runs[i] for i in (2, 4, 0, 3, 1)]
    assert [row.last_run for row in recent_workflows(workspace)] == newest_first[:4]
    assert [row.last_run for row in recent_workflows(workspace, user, limit=20)] == newest_first
    assert [row.last_run for row in recent_workflows(workspace, limit=1)] == newest_first[:1]


def shown(row: Any) -> dict[str, Any]:
    """What is on a page: all but the day, which only its order needs."""
    return {name: value for name, value in row.__dict__.items() if name not in {"_state", "day"}}


def test_its_own_statement_answers_as_the_one_that_django_compiles(live: Host) -> None:
    """And what is made of the queryset is no longer what the statement was for."""
    workspace, user = live.make_workspace(), live.make_user()
    for minute in (2, 1, 3, 2, 1):  # two at the same time: the run's key decides
        live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user, used_at=moment(minute))
    flush_all()
    for rows in (recent_workflows(workspace), recent_workflows(workspace, user, limit=3)):
        with CaptureQueriesContext(connection) as captured:
            ready = [shown(row) for row in rows]
            assert [row["id"] for row in ready][1:3] == [row.pk for row in rows[1:3]]  # of rows that are there
            assert ready == [shown(row) for row in rows.all()]
        ready_sql, compiled_sql = (query["sql"] for query in captured)
        assert compiled_sql.split() != ready_sql.split()
    changed = recent_workflows(workspace)
    changed.query.clear_limits()
    assert len(changed) == 5, "also if the query is changed in place"
    newest, second = recent_workflows(workspace, limit=2)
    assert [row.pk for row in recent_workflows(workspace, limit=2)[1:]] == [second.pk]
    assert recent_workflows(workspace).first() == newest
    assert recent_workflows(workspace).count() == 4, "of five"
    assert recent_workflows(workspace).values_list("last_run", flat=True)[0] == newest.last_run_id
    assert pickle.loads(pickle.dumps(recent_workflows(workspace, limit=2)))[1] == second


def test_a_workspace_or_its_key_a_user_or_its_value(live: Host) -> None:
    workspace, user = live.make_workspace(), live.make_user()
    live.make_run(workspace=workspace, workflow=live.make_workflow(), user=user)
    flush_all()
    rows = list(recent_workflows(workspace, user))
    assert len(rows) == 1
    key = live.workspace_key(workspace)
    for fresh in (False, True):
        for whose in (workspace, key, str(key)):
            assert list(recent_workflows(whose, user, fresh=fresh)) == rows
        for who in (live.user_text(user), getattr(user, "pk", user)):
            assert list(recent_workflows(workspace, who, fresh=fresh)) == rows


def test_somebody_without_runs_has_none(live: Host) -> None:
    workspace = live.make_workspace()
    live.make_run(workspace=workspace, workflow=live.make_workflow(), user=live.make_user())
    flush_all()
    assert list(recent_workflows(workspace, live.make_user())) == []
    assert list(recent_workflows(live.make_workspace())) == []


def test_one_query_with_what_the_page_needs(live: Host) -> None:
    workspace = live.make_workspace()
    workflow = live.make_workflow()
    run = live.make_run(workspace=workspace, workflow=workflow, user=live.make_user())
    flush_all()
    with CaptureQueriesContext(connection) as captured:
        (row,) = recent_workflows(workspace).select_related("published_run", "last_run")
        assert (row.published_run, row.last_run) == (workflow, run)
    assert len(captured) == 1


def test_a_fresh_page_takes_prefetches(live: Host) -> None:
    workspace, workflow = live.make_workspace(), live.make_workflow()
    run = live.make_run(workspace=workspace, workflow=workflow, user=live.make_user())
    with CaptureQueriesContext(connection) as captured:
        (row,) = recent_workflows(workspace, fresh=True).prefetch_related("published_run", "last_run")
        assert (row.published_run, row.last_run) == (workflow, run)
    assert len(captured) == 3


@pytest.mark.parametrize("limit", [0, -1, True, "4", 1.0, None])
def test_a_limit_that_asks_for_nothing_is_refused(live: Host, limit: Any) -> None:
    with pytest.raises(InvalidArgument, match="ask for at least 1 workflow"):
        recent_workflows(live.make_workspace(), limit=limit)


def test_no_workspace_is_refused(live: Host) -> None:
    with pytest.raises(InvalidArgument, match="pass a saved workspace or its key"):
        recent_workflows(None)


def test_another_models_instance_is_no_workspace(live: Host) -> None:
    with pytest.raises(InvalidArgument, match="workspace is a"):
        recent_workflows(live.make_workflow())


def test_another_models_instance_is_no_user(live: Host) -> None:
    """Where the user's column is a foreign key; a plain column cannot tell whose key it holds."""
    if live.run_model._meta.get_field(live.user_field).remote_field is not None:
        with pytest.raises(InvalidArgument, match="user is a"):
            recent_workflows(live.make_workspace(), live.make_workflow())


def test_an_anonymous_user_is_refused_and_told_what_to_pass(live: Host) -> None:
    for user in (AnonymousUser(), SimpleLazyObject(AnonymousUser)):
        with pytest.raises(InvalidArgument, match="user is anonymous, which names nobody; pass None"):
            recent_workflows(live.make_workspace(), user)


def test_an_empty_user_is_refused_for_it_would_mean_the_whole_workspace(live: Host) -> None:
    with pytest.raises(InvalidArgument, match="user is ''"):
        recent_workflows(live.make_workspace(), "")


def test_an_impossible_user_is_refused_or_has_no_workflows(live: Host) -> None:
    """Where the user's key is no text, other text is refused at once, not by the database."""
    run = live.make_run(workspace=(workspace := live.make_workspace()), workflow=live.make_workflow(),
                        user=live.make_user())  # fmt: skip
    flush_all()
    if run._meta.get_field(live.user_field).remote_field is None:
        assert list(recent_workflows(workspace, f"nobody-{uuid.uuid4()}")) == []
    else:
        with pytest.raises(InvalidArgument, match="no value of"):
            recent_workflows(workspace, "neither a number nor a UUID")


@pytest.mark.host_independent
def test_the_names_of_django_that_are_not_documented() -> None:
    """A page is read by a statement of its own only as long as Django fetches rows by these."""
    assert getattr(QuerySet.query, "fset", None) is not None
    page: Any = QuerySet(WorkspaceRecentWorkflow)
    assert page._result_cache is None
    page._result_cache = []
    page._fetch_all()
    assert list(page) == [], "it was not asked again"
