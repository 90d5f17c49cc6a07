"""The newest run that is left: a pass and a walk find the same, and the cheaper one is chosen."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.hosts.adapter import Host, moment
from tests.integration.projection.neighbours import Neighbours
from tests.oracle import expected
from tests.sessions import query
from workflows_tasks import history, keys
from workflows_tasks.host import host as resolved
from workflows_tasks.projection import searches
from workflows_tasks.projection.searches import NONE_LEFT, Key

FOR_EVER_S = 1e18


def text_of_workflow(key: Any) -> str:
    text = keys.as_text(resolved().workflow, key)
    assert text is not None
    return text


def random_runs(near: Neighbours, draw: random.Random) -> list[Key]:
    """Runs with many ties, some hidden, and every key that they may have; some keys have no run."""
    host = near.host
    users, workflows = [host.make_user() for _ in range(3)], [host.make_workflow() for _ in range(4)]
    paths = [host.leading_to(workflow) for workflow in workflows[:3]]
    made = host.insert_runs(
        [
            {
                host.workspace_field: draw.choice(near.workspaces), host.user_field: draw.choice(users),
                host.used_at_field: moment(0), **draw.choice(paths),
                **(host.hidden if draw.random() < 0.2 else host.shown),
            }
            for _ in range(draw.randint(5, 80))
        ]
    )  # fmt: skip
    for minute in range(4):  # not when they are inserted, for some hosts have auto_now
        some = draw.sample(made, len(made) // 2)
        host.run_model._base_manager.filter(pk__in=some).update(**{host.used_at_field: moment(minute)})
    uids = ["", *map(host.user_text, users)]
    every = [
        Key(history.workspace_text(workspace), uid, text_of_workflow(workflow.pk))
        for workspace in near.workspaces for uid in uids for workflow in workflows
    ]  # fmt: skip
    return draw.sample(every, draw.randint(1, len(every)))


def truth(near: Neighbours) -> dict[tuple[str, str, str], str]:
    return {
        (history.workspace_text(row.workspace), row.uid, text_of_workflow(row.workflow)): str(row.run)
        for row in expected(near.host)
    }


def by_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "PASS_RUNS", 10**6)


def by_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    """With pages so short that each of them ends too early for some key."""
    monkeypatch.setattr(searches, "PASS_RUNS", 0)
    monkeypatch.setattr(searches, "RUNS_A_KEY", 0)
    monkeypatch.setattr(searches, "PAGES", (2, 5))


@pytest.mark.parametrize("seed", range(6))
def test_a_pass_and_a_walk_find_what_is_true(live: Host, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(seed)
    near = Neighbours(live)
    wanted = random_runs(near, draw)
    true = truth(near)
    for way in (by_pass, by_walk):
        with monkeypatch.context() as patched:
            way(patched)
            met = searches.newest(wanted, until_s=FOR_EVER_S)
        assert {key: newest.run for key, newest in met.items()} == {key: true.get(key) for key in wanted}, way.__name__


def statements(wanted: list[Key]) -> tuple[int, int, int]:
    """Statements that measure, pass and walk."""
    with CaptureQueriesContext(connection) as captured:
        searches.newest(wanted, until_s=FOR_EVER_S)
    texts = [each["sql"] for each in captured.captured_queries]
    marks = ("AS asked(workspace, most)", "AS wanted(workspace", "AS position, live.used_at::text")
    counts = tuple(sum(mark in text for text in texts) for mark in marks)
    assert sum(counts) == len(texts)
    return counts  # type: ignore[return-value]


def a_key_of_each(near: Neighbours, count: int) -> list[Key]:
    """So many keys of the first workspace, in the host's order."""
    workspace = history.workspace_text(near.workspaces[0])
    return [Key(workspace, "", text_of_workflow(near.host.make_workflow().pk)) for _ in range(count)]


def test_the_cheaper_way_is_chosen(live: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass where its runs are fewer than what the keys' walks would cost."""
    near = Neighbours(live)
    live.make_runs(40, workspaces=near.workspaces[:1], workflows=[near.workflow], users=[near.user])
    few, many = a_key_of_each(near, 3), a_key_of_each(near, 5)
    assert statements(few) == (1, 1, 0), "a small workspace is passed over in any case"
    monkeypatch.setattr(searches, "PASS_RUNS", 10)
    monkeypatch.setattr(searches, "RUNS_A_KEY", 10)
    assert statements(few) == (1, 0, 3), "three pages of walks, for nothing is there"
    assert statements(many) == (1, 1, 0)


def test_a_pass_reads_a_bounded_number_of_workspaces(live: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    near = Neighbours(live)
    live.make_runs(30, workspaces=near.workspaces, workflows=[near.workflow], users=[near.user])
    wanted = [Key(history.workspace_text(each), "", text_of_workflow(near.workflow.pk)) for each in near.workspaces]
    assert statements(wanted) == (1, 1, 0)
    monkeypatch.setattr(searches, "PASS_STATEMENT_RUNS", 15)
    assert statements(wanted) == (1, 3, 0)


def test_a_pass_compares_no_run_with_each_key(live: Host) -> None:
    """It looks each run up in a hash of the keys, whatever the planner believes about the workspace."""
    near = Neighbours(live)
    with CaptureQueriesContext(connection) as captured:
        searches.newest(a_key_of_each(near, 50), until_s=FOR_EVER_S)
    (one_pass,) = [each["sql"] for each in captured.captured_queries if "AS wanted(workspace" in each["sql"]]
    plan = "\n".join(line for (line,) in query(f"EXPLAIN {one_pass}"))
    assert "hashed SubPlan" in plan


def test_a_walk_ends_at_the_newest_page_as_a_rule(live: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    near = Neighbours(live)
    live.make_runs(40, workspaces=near.workspaces[:1], workflows=[near.workflow], users=[near.user])
    monkeypatch.setattr(searches, "PASS_RUNS", 0)
    monkeypatch.setattr(searches, "RUNS_A_KEY", 0)
    key = Key(history.workspace_text(near.workspaces[0]), "", text_of_workflow(near.workflow.pk))
    assert statements([key]) == (1, 0, 1)
    user = key._replace(uid=live.user_text(near.user))
    assert statements([key, user]) == (1, 0, 1), "both in one statement"
    assert searches.newest([key], until_s=FOR_EVER_S)[key] != NONE_LEFT


def test_when_its_time_is_over_it_has_searched_one_statement(live: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    near = Neighbours(live)
    monkeypatch.setattr(searches, "PASS_STATEMENT_RUNS", 0)
    live.make_runs(9, workspaces=near.workspaces, workflows=[near.workflow], users=[near.user])
    wanted = [Key(history.workspace_text(each), "", text_of_workflow(near.workflow.pk)) for each in near.workspaces]
    assert list(searches.newest(wanted, until_s=0.0)) == wanted[:1]
