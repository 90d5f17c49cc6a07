"""Any split of any range, filled in any order, with pieces filled twice, ends as one statement over all of it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from backfill import pace, spans
from backfill.spans import Step
from tests.backfill.history import History
from tests.oracle import Row, assert_exact, stored
from workflows_tasks import projection, truth
from workflows_tasks.ids import encode
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.sql import looks
from workflows_tasks.sql.fragments import EVERYWHERE, counted_by_history, fragments

EXAMPLES = {"platform": 40, "library": 15, "deep": 15}
BRIEF = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def positions() -> list[tuple[str, str]]:
    """(workspace, run) of all runs of history, in their order."""
    where, params = counted_by_history(EVERYWHERE)
    statement = f"SELECT live.workspace, live.run FROM {fragments().history} WHERE {where} ORDER BY 1, 2"
    return [(spans.workspace_text(w), encode(run)) for w, run in truth.rows((statement, params))]


def between(start: tuple[str, str] | None, end: tuple[str, str], runs: int, everything: list[tuple[str, str]]) -> Step:
    """The step from past one position up to another."""
    first = everything[0][0] if start is None else start[0]
    return Step(first, None if start is None else start[1], *end, runs)


def emptied() -> None:
    WorkspaceRecentWorkflow.objects.all().delete()


def filled(*steps: Step) -> list[Row]:
    emptied()
    for step in steps:
        projection.raise_history(step.workspaces)
        assert projection.stale_in_range(step.workspaces) == []
    return stored()


@pytest.fixture
def whole(history: History) -> tuple[list[tuple[str, str]], Counter[Row]]:
    """All positions, and the table that one statement makes."""
    projection.fill()
    return positions(), Counter(assert_exact(history.host))


def test_any_split_in_any_order_is_one_statement(
    whole: tuple[list[tuple[str, str]], Counter[Row]], history: History
) -> None:
    everything, one = whole

    @settings(
        max_examples=EXAMPLES[history.host.name], deadline=None, suppress_health_check=BRIEF,
        phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    @given(
        cuts=st.sets(st.integers(1, len(everything) - 1), max_size=8),
        draw=st.randoms(use_true_random=False),
        repeat=st.booleans(),
    )
    def check(cuts: set[int], draw: Any, repeat: bool) -> None:
        ends = [0, *sorted(cuts), len(everything)]
        steps = [
            between(everything[a - 1] if a else None, everything[b - 1], b - a, everything) for a, b in pairwise(ends)
        ]
        assert sum(len(truth.rows(_count(step))) for step in steps) == len(everything)
        draw.shuffle(steps)
        assert Counter(filled(*steps, *(steps[:1] if repeat else []))) == one

    check()


def _count(step: Step) -> Any:
    from backfill import sql

    return sql.runs_in(step.workspaces, 10**6)


def test_any_way_of_taking_batches_passes_every_run_once(history: History) -> None:
    """Batches of any size from any plan follow each other without a gap or an overlap."""
    from backfill import runner

    everything = positions()

    @settings(max_examples=15, deadline=None, suppress_health_check=BRIEF, phases=[Phase.generate, Phase.shrink])
    @given(chunk_size=st.integers(1, 400), sizes=st.lists(st.integers(1, 90), min_size=1, max_size=30))
    def check(chunk_size: int, sizes: list[int]) -> None:
        passed: list[str] = []
        for chunk in runner.plan(chunk_size=chunk_size).chunks:
            left, largest, smallest = chunk, max(step.runs for step in chunk), 400
            while left:
                size = sizes[len(passed) % len(sizes)]
                smallest = min(size, smallest)
                batch, left = spans.next_batch(left, size)
                found = [encode(run) for (run,) in truth.rows(_count(batch))]
                assert len(found) == batch.runs
                assert batch.runs <= size
                assert batch.is_tidy or smallest < largest, "no step was cut, and an index does not lead to its runs"
                passed += found
        assert passed == [run for _, run in everything]

    check()


def test_halves_are_the_whole(history: History) -> None:
    from backfill import runner

    for chunk in runner.plan(chunk_size=90).chunks:
        waiting = [chunk]
        while waiting:
            parts = spans.halves(waiting.pop())
            assert len(parts) in {1, 2}
            if len(parts) == 2:
                assert all(sum(step.runs for step in part) >= 1 for part in parts)
                waiting += parts
            else:
                assert parts[0][0].runs == 1


def test_a_batch_far_over_its_time_is_a_tenth_and_growth_is_bounded(configure: Any) -> None:
    configure(BACKFILL_TARGET_S=0.5)
    assert pace.adapted(10_000, 2.6) == 1_000
    assert pace.adapted(10_000, 0.001) == 20_000
    assert pace.adapted(10_000, 0.001, may_grow=False) == 10_000
    assert pace.adapted(10_000, 1.0) == 5_000
    assert pace.adapted(1, 60.0) == 1


def test_within_one_workspace_a_fill_is_an_equality_and_a_range_of_runs(history: History) -> None:
    """And over several a range of both, so that the host's indexes serve."""
    from backfill import runner

    steps = [step for chunk in runner.plan(chunk_size=400).chunks for step in chunk]
    (heavy, *_) = [step for step in steps if step.after_run is not None and step.last_run is not None]
    where, params = heavy.workspaces.where("w", "r")
    assert [part.split(" %s")[0] for part in where.split(" AND ")] == ["w =", "r >", "r <="]
    assert len(params) == 3
    light = next(step for step in steps if step.first != step.last)
    where, params = light.workspaces.where("w", "r")
    assert [part.split(" %s")[0] for part in where.split(" AND ")] == ["w >=", "w <="]
    untidy = spans.joined([heavy, light]).workspaces.where("w", "r")[0]
    assert "(w, r) > (" in untidy
    assert looks.stale_in_range(heavy.workspaces)[0].count("stored.last_run_id >") == 1
