"""Every change of status is in the one table, with a reason; no other can be saved, and the documentation has them."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from backfill import runner, states
from backfill.models import Run, saved
from backfill.states import CHUNK, CHUNK_MEANS, RUN, RUN_MEANS, ChunkStatus, Edge, RunStatus, TransitionRefused
from tests.backfill.history import History, planned, started
from tests.commands import ROOT
from tests.hosts.adapter import Host

ALLOWED = {(edge.source, edge.target) for edge in RUN}


@pytest.mark.parametrize(("edges", "statuses"), [(RUN, RunStatus), (CHUNK, ChunkStatus)], ids=["run", "chunk"])
def test_the_table_is_complete(edges: tuple[Edge, ...], statuses: Any) -> None:
    assert len({(edge.source, edge.target) for edge in edges}) == len(edges)
    assert all(edge.why.endswith(".") and edge.why[0].isupper() for edge in edges)
    reached = {edge.target for edge in edges} | {statuses.values[0]}
    assert reached == set(statuses.values)
    left = {edge.source for edge in edges}
    assert set(statuses.values) - left == ({"cancelled", "succeeded"} if statuses is RunStatus else {"done", "split"})


def test_each_status_is_explained() -> None:
    assert set(RUN_MEANS) == set(RunStatus.values)
    assert set(CHUNK_MEANS) == set(ChunkStatus.values)


@pytest.mark.parametrize(("source", "target"), list(product(RunStatus.values, RunStatus.values)))
def test_no_other_change_is_saved(live: Host, source: str, target: str) -> None:
    run = Run.objects.create(actor="a test", chunk_size=1, parallel=1, width=1, status=source)
    run = Run.objects.get(pk=run.pk)
    if source == target or (source, target) in ALLOWED:
        saved(run, status=target)
        return
    with pytest.raises(TransitionRefused, match=f"What is {source} cannot become {target}"):
        saved(run, status=target)
    assert Run.objects.get(pk=run.pk).status == source


def test_what_is_asked_for_at_the_wrong_time_is_refused_and_says_what_is_possible(history: History) -> None:
    run = started()
    with pytest.raises(TransitionRefused, match="only a paused one is resumed"):
        runner.resume(run.pk, actor="a test")
    with pytest.raises(TransitionRefused, match="none of its chunks has failed"):
        runner.retry(run.pk, actor="a test")
    runner.cancel(run.pk, actor="a test")
    with pytest.raises(TransitionRefused, match="nothing: it is at its end"):
        runner.pause(run.pk, actor="a test")
    assert [event.what for event in run.events.all()] == ["start", "cancel", "cancelled"]


def test_who_did_what_is_noted(history: History) -> None:
    run = runner.start(chunk_size=40, actor="ada@laptop")
    runner.pause(run.pk, actor="grace")
    runner.resume(run.pk, actor="hedy")
    runner.set_parallel(run.pk, 7, actor="joan")
    told = [(event.actor, event.what, event.detail) for event in run.events.all()]
    assert told == [
        ("ada@laptop", "start", "all workspaces, 40 runs a chunk, 2 at a time"),
        ("grace", "pause", ""),
        ("backfill", "paused", ""),
        ("hedy", "resume", ""),
        ("joan", "parallel", "7"),
    ]


@pytest.mark.parametrize("options", [{"parallel": 0}, {"chunk_size": 0}, {"parallel": 10**6}, {"chunk_size": "many"}])
def test_nonsense_is_refused_before_anything_is_written(live: Host, options: dict[str, Any]) -> None:
    from workflows_tasks.errors import InvalidArgument

    with pytest.raises(InvalidArgument, match="give a whole number from 1 to"):
        started(**options)
    assert not Run.objects.exists()


def test_resumed_it_goes_on_in_the_phase_it_was_in(history: History) -> None:
    run = planned()
    runner.pause(run.pk, actor="a test")
    assert runner.resume(run.pk, actor="a test").status == "running"


@pytest.mark.parametrize(("edges", "meanings"), [(RUN, RUN_MEANS), (CHUNK, CHUNK_MEANS)], ids=["run", "chunk"])
def test_the_documentation_has_every_status_and_every_change(edges: tuple[Edge, ...], meanings: Any) -> None:
    text = (ROOT / "docs" / "backfill.md").read_text()
    for status, means in meanings.items():
        assert f"| `{status}` | {means} |" in text
    for edge in edges:
        assert f"| `{edge.source}` | `{edge.target}` | {edge.why} |" in text
    assert set(states.OPEN) >= set(states.WORKING)
