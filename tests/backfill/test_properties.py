"""Any split of any range, filled in any order, with pieces filled twice, ends as one statement over all of it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from backfill import control, ranges, worker
from backfill.ranges import Step
from tests.backfill.given import History
from tests.oracle import assert_exact, stored
from workflows_tasks import history as package
from workflows_tasks.history import EVERYWHERE
from workflows_tasks.models import WorkspaceRecentWorkflow

EXAMPLES = {"platform": 25, "library": 10, "deep": 10}
RULES: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "phases": [Phase.generate, Phase.shrink],
}


def between(start: tuple[str, str] | None, end: tuple[str, str], runs: int, first: str) -> Step:
    """The step from past one position up to another."""
    return Step(first if start is None else start[0], None if start is None else start[1], *end, runs)


def test_any_split_in_any_order_is_one_statement(history: History) -> None:
    everything = ranges.first_runs(EVERYWHERE, 10**6)
    package.fill(EVERYWHERE)
    one = Counter(assert_exact(history.host))

    @settings(max_examples=EXAMPLES[history.host.name], **RULES)
    @given(
        cuts=st.sets(st.integers(1, len(everything) - 1), max_size=8),
        draw=st.randoms(use_true_random=False),
        repeat=st.booleans(),
    )
    def check(cuts: set[int], draw: Any, repeat: bool) -> None:
        ends = [0, *sorted(cuts), len(everything)]
        steps = [
            between(everything[a - 1] if a else None, everything[b - 1], b - a, everything[0][0])
            for a, b in pairwise(ends)
        ]
        assert [len(ranges.first_runs(step.range, 10**6)) for step in steps] == [step.runs for step in steps]
        draw.shuffle(steps)
        WorkspaceRecentWorkflow.objects.all().delete()
        for step in [*steps, *(steps[:1] if repeat else [])]:
            package.fill(step.range)
            assert package.recheck_filled(step.range) == 0
        assert Counter(stored()) == one

    check()


def test_any_way_of_taking_batches_passes_every_run_once(history: History) -> None:
    """Batches of any size from any plan follow each other without a gap or an overlap."""
    everything = ranges.first_runs(EVERYWHERE, 10**6)

    @settings(max_examples=8, **RULES)
    @given(chunk_size=st.integers(1, 400), sizes=st.lists(st.integers(1, 90), min_size=1, max_size=30))
    def check(chunk_size: int, sizes: list[int]) -> None:
        passed: list[tuple[str, str]] = []
        for chunk in control.plan(chunk_size=chunk_size).chunks:
            left, largest, smallest = chunk, max(step.runs for step in chunk), 400
            while left:
                size = sizes[len(passed) % len(sizes)]
                smallest = min(size, smallest)
                batch, left = ranges.next_batch(left, size)
                runs = ranges.first_runs(batch.range, 10**6)
                assert len(runs) == batch.runs <= size
                assert batch.is_tidy or smallest < largest, "no step was cut, and an index does not lead to its runs"
                passed += runs
        assert passed == everything

    check()


@pytest.mark.host_independent
def test_a_batch_is_as_large_as_its_time_allows_and_growth_is_bounded() -> None:
    assert worker.adapt(10_000, 5.0) == 1_000
    assert worker.adapt(10_000, 0.001) == 20_000
    assert worker.adapt(10_000, 1.0) == 5_000
    assert worker.adapt(1, 60.0) == 1


@pytest.mark.host_independent
def test_within_one_workspace_a_fill_is_an_equality_and_a_range_of_runs(history: History) -> None:
    """And over several a range of both, so that the host's indexes serve."""
    steps = [step for chunk in control.plan(chunk_size=400).chunks for step in chunk]
    heavy = next(step for step in steps if step.after_run is not None and step.last_run is not None)
    where = heavy.range.where("w", "r").text
    assert [part.split(" %s")[0] for part in where.split(" AND ")] == ["w =", "r >", "r <="]
    light = next(step for step in steps if step.first != step.last)
    where = light.range.where("w", "r").text
    assert [part.split(" %s")[0] for part in where.split(" AND ")] == ["w >=", "w <="]
