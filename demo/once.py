"""``python -m demo once``: the main job on real input, checked at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from demo import catalogue, measure, oracle, replaced
from demo.bots.models import SavedRun
from demo.cards import Card, cards
from demo.executions import STATEMENTS, Executions, other_program
from demo.history import VERSIONS
from demo.host import Workers
from demo.measure import Freshness
from demo.narration import bar, heading, line, step
from demo.shape import USERS, WorkspaceShape
from demo.starting import fill, install
from workflows_tasks import conf, recent_workflows

VISIBLE_WITHIN_S = 30.0


def run(shapes: Sequence[WorkspaceShape], workers: Workers, *, seconds: float, saves_per_s: float) -> bool:
    """Run the demo on a loaded history; True if the table is exact at its end."""
    heaviest = shapes[0].id
    heading("Before: every home page reads its workspace's whole history")
    with step("The old query, DISTINCT ON over the heaviest workspace") as came_of_it:
        old_ms = measure.best_ms(lambda: replaced.recent_workflows(heaviest))
        came_of_it(f"best of 3: {old_ms:.1f} ms")
    _show_plan(*replaced.query(heaviest))

    heading("Installing: migrate, then history into the table while runs are written")
    install(workers)
    fill(shapes)

    _load(shapes, workers, seconds=seconds, saves_per_s=saves_per_s)
    _look_at_once(max(shapes, key=lambda shape: shape.workflows))

    heading("After: a home page reads one range of an index")
    rows = recent_workflows(heaviest)
    new_ms = measure.best_ms(measure.statement(rows), rounds=20)
    line(f"The new query: best of 20: {new_ms:.2f} ms; the old one took {old_ms:.1f} ms")
    _show_plan(*rows.query.sql_with_params())
    return _check()


def _show_plan(sql: str, params: Any) -> None:
    for each in measure.plan(sql, params):
        if "actual" in each or "Execution" in each:
            line(f"  | {each}")


def _load(shapes: Sequence[WorkspaceShape], workers: Workers, *, seconds: float, saves_per_s: float) -> None:
    heading(f"Workflows execute: up to {saves_per_s:.0f} saves a second by Django, and another program writes SQL")
    executions = Executions(shapes, draw=random.Random(20))
    before, messages = Freshness.now(), workers.flush_messages()
    started = time.monotonic()
    with bar(f"Writing for {seconds:.0f} s", round(saves_per_s * seconds)) as progress:
        for _ in executions.paced(saves_per_s, seconds):
            progress.update(1)
    took_s = time.monotonic() - started
    with step("Waiting until nothing is pending"):
        _wait_until(lambda: not Freshness.now().pending)
    counts, messages = executions.counts, workers.flush_messages() - messages
    line(
        f"Django: {counts['saves']:,} saves of {counts['begun']:,} runs, {counts['saves'] / took_s:.0f} a second; "
        f"{counts['deleted']} deleted, {counts['hidden']} hidden, {counts['moved']} moved afterwards"
    )
    line(f"SQL:    {', '.join(f'{counts[what]} {what}' for what in STATEMENTS)}")
    window_s = conf.settings().flush_window_s
    line(
        f"{messages:,} flush messages: {messages / took_s:.1f} a second, {messages / counts['saves']:.3f} a save. "
        f"Busy shards need {conf.settings().shards / window_s:.0f} a second, however many saves there are"
    )
    p50, p99 = (measure.lag_s(Freshness.now().since(before), q) for q in (0.50, 0.99))
    line(f"From write to visible: p50 {p50 or 0:.2f} s, p99 {p99 or 0:.2f} s (a window is {window_s:g} s)")


def _wait_until(condition: Callable[[], object]) -> float:
    """Seconds until a condition holds.

    Raises:
        RuntimeError: it does not.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > VISIBLE_WITHIN_S:
            raise RuntimeError(f"After {VISIBLE_WITHIN_S:.0f} s changes are still not visible: {Freshness.now()}")
        time.sleep(0.01)
    return time.monotonic() - started


def _look_at_once(shape: WorkspaceShape) -> None:
    """A visitor looks at their own page right after a write, by Django or not: ``fresh=True`` waits for no flush."""
    user = catalogue.users(USERS)[shape.first_user % USERS]
    heading(f"The home page of {user} in {shape.name}")
    own = {"workspace_id": shape.id, "uid": user}
    first, second = (1 + VERSIONS * catalogue.titles().index(f"{what} tenders") for what in ("Summarise", "Translate"))

    saved = SavedRun.objects.create(**own, parent_version_id=first)
    _tell_at_once(shape, user, "Django", lambda card: card.run == saved.pk)
    with other_program() as other:
        other.execute(STATEMENTS["INSERT"], {**own, "parent_version_id": second})
    _tell_at_once(shape, user, "SQL", lambda card: card.run > saved.pk)
    for rank, card in enumerate(cards(shape.id, user), start=1):
        line(f"  {rank}  {card.title:<31} {card.ago:>14}")


def _tell_at_once(shape: WorkspaceShape, user: str, how: str, is_it: Callable[[Card], bool]) -> None:
    if not is_it(cards(shape.id, user, fresh=True)[0]):
        raise RuntimeError(f"fresh=True does not show a run that was written by {how}.")
    waited_s = _wait_until(lambda: is_it(cards(shape.id, user)[0]))
    line(
        f"A run written by {how:<6} is on its user's own page at once (fresh=True), in the table {waited_s:.2f} s later"
    )


def _check() -> bool:
    heading("Is the table exact?")
    _wait_until(lambda: not Freshness.now().pending)
    with step("An independent query over all history, EXCEPT ALL both ways") as came_of_it:
        differing = oracle.differences()
        came_of_it("DIFFERENT" if differing else f"equal, {oracle.expected_rows():,} rows")
    for difference in differing:
        line(str(difference))
    return not differing
