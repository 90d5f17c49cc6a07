"""Every change of status is in the one table, with a reason; no other can be saved, and who asked is noted."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from backfill import control, states
from backfill.models import Backfill, store
from backfill.states import BACKFILL, BACKFILL_MEANS, CHUNK, CHUNK_MEANS, BackfillStatus, ChunkStatus, Edge
from tests.backfill.given import History, start_backfill
from tests.commands import ROOT
from tests.hosts.adapter import Host
from workflows_tasks.errors import InvalidArgument

pytestmark = pytest.mark.host_independent

TABLES: pytest.MarkDecorator = pytest.mark.parametrize(
    ("edges", "statuses", "means", "ends"),
    [
        (BACKFILL, BackfillStatus, BACKFILL_MEANS, {"cancelled", "succeeded"}),
        (CHUNK, ChunkStatus, CHUNK_MEANS, {"done"}),
    ],
    ids=["backfill", "chunk"],
)


@TABLES
def test_the_table_is_complete(edges: tuple[Edge, ...], statuses: Any, means: Any, ends: set[str]) -> None:
    assert len({(edge.source, edge.target) for edge in edges}) == len(edges)
    assert all(edge.why.endswith(".") and edge.why[0].isupper() for edge in edges)
    assert {edge.target for edge in edges} | {statuses.values[0]} == set(statuses.values) == set(means)
    assert set(statuses.values) - {edge.source for edge in edges} == ends


def test_the_documentation_has_every_status() -> None:
    page = (ROOT / "docs" / "backfill.md").read_text()
    for status, meaning in BACKFILL_MEANS.items():
        assert f"| `{status}` | {meaning} |" in page


@TABLES
def test_no_other_change_is_allowed(edges: tuple[Edge, ...], statuses: Any, means: Any, ends: set[str]) -> None:
    allowed = {(edge.source, edge.target) for edge in edges}
    for source, target in product(statuses.values, statuses.values):
        if (source, target) in allowed:
            states.check(edges, source, target)
        else:
            with pytest.raises(states.TransitionRefused, match=f"What is {source} cannot become {target}"):
                states.check(edges, source, target)


def test_what_is_refused_is_not_saved(live: Host) -> None:
    backfill = Backfill.objects.create(actor="a test", chunk_size=1, concurrency=1)
    with pytest.raises(states.TransitionRefused):
        store(Backfill.objects.get(pk=backfill.pk), status="succeeded")
    assert Backfill.objects.get(pk=backfill.pk).status == "enqueued"


def test_what_is_asked_for_at_the_wrong_time_is_refused_and_says_what_is_possible(history: History) -> None:
    backfill = start_backfill()
    with pytest.raises(states.TransitionRefused, match="only a paused or failed one can be resumed"):
        control.resume(backfill.pk, actor="a test")
    control.cancel(backfill.pk, actor="a test")
    with pytest.raises(states.TransitionRefused, match="nothing: it is at its end"):
        control.pause(backfill.pk, actor="a test")
    assert control.get(backfill.pk).status == "cancelled"


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"chunk_size": 0}, {"concurrency": 10**6}, {"chunk_size": "many"}]
)
def test_nonsense_is_refused_before_anything_is_written(live: Host, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="give a whole number from 1 to"):
        start_backfill(**options)
    assert not Backfill.objects.exists()
