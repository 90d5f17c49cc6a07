"""``python -m demo once``: the main job on real input, checked at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from demo import catalogue, measure, oracle, replaced
from demo.cards import Card, cards
from demo.executions import STEPS, Executions
from demo.host import Workers
from demo.narration import bar, counted, heading, line, step
from demo.shape import USERS, WorkspaceShape
from demo.starting import fill
from workflows_tasks import conf, recent_workflows, repair

SETTLED_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Page:
    """A home page that is looked at before and after the load."""

    shape: WorkspaceShape
    user: str | None = None

    def cards(self) -> list[Card]:
        return cards(self.shape.id, self.user)

    def agrees(self) -> bool:
        """The old query names the same runs in the same order."""
        truth = replaced.recent_workflows(self.shape.id, self.user)
        return [use.run for use in truth] == [card.run for card in self.cards()]

    def __str__(self) -> str:
        whose = f"{self.user} in " if self.user else ""
        size = f"{self.shape.runs:,} runs, {counted(self.shape.workflows, 'workflow')}"
        return f"{whose}{self.shape.name} (workspace {self.shape.id}; {size} so far)"


def run(shapes: Sequence[WorkspaceShape], workers: Workers, *, seconds: float, saves_per_s: float) -> bool:
    """Run the demo on a loaded history; True if the table is exact at its end."""
    pages = _pages(shapes)
    heaviest = pages[0].shape.id

    heading("Before: every home page reads its workspace's whole history")
    with step("The old query, DISTINCT ON over the heaviest workspace") as came_of_it:
        old_ms = measure.best_ms(lambda: replaced.recent_workflows(heaviest))
        came_of_it(f"best of 3: {old_ms:.1f} ms")

    heading("History into the table, while runs are saved")
    fill(shapes, workers)

    before = [page.cards() for page in pages]
    _load(pages, shapes, seconds=seconds, saves_per_s=saves_per_s)

    heading("Home pages, before and after")
    for page, then in zip(pages, before, strict=True):
        _show(page, then, page.cards())

    heading("After: a home page reads one range of an index")
    _new_query(heaviest, old_ms)
    return _check(pages)


def _pages(shapes: Sequence[WorkspaceShape]) -> list[Page]:
    """The heaviest workspace, one with a few workflows, a small one, and one user of a workspace with many."""
    small = next(shape for shape in reversed(shapes) if shape.workflows >= 4)
    many = max(shapes, key=lambda shape: shape.workflows)
    return [
        Page(shapes[0]),
        Page(shapes[4]),
        Page(small),
        Page(many, catalogue.users(USERS)[many.first_user % USERS]),
    ]


def _load(pages: Sequence[Page], shapes: Sequence[WorkspaceShape], *, seconds: float, saves_per_s: float) -> None:
    heading(f"Workflows execute: {STEPS} saves a run, {saves_per_s:.0f} saves a second, many users and workspaces")
    repair.sweep()  # beat's first one would come later; the next looks at what changes from here on
    executions = Executions(shapes, watched=[page.shape for page in pages], draw=random.Random(20))
    before = measure.Freshness.now()
    with measure.counting_flush_messages() as messages:
        started = time.monotonic()
        with bar(f"Saving for {seconds:.0f} s", round(saves_per_s * seconds)) as progress:
            for _ in executions.paced(saves_per_s, seconds):
                progress.update(1)
        took_s = time.monotonic() - started
        with step("Waiting until nothing is pending"):
            after = _settled()
        with step("A sweep, which looks for announcements that were lost") as came_of_it:
            came_of_it(f"{_swept()} lost")
        sent = messages()
    _tell_load(executions.counts, took_s=took_s, sent=sent)
    _tell_lag(after.since(before))


def _settled() -> measure.Freshness:
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while not (now := measure.Freshness.now()).settled:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"After {SETTLED_WITHIN_S:.0f} s {now.pending} runs wait and {now.claims} claims are open."
            )
        time.sleep(0.05)
    return now


def _swept() -> int:
    time.sleep(2 * conf.settings().flush_window_s)  # younger changes it leaves to their own flush
    healed = repair.sweep()
    if healed:
        _settled()
    return healed


def _tell_load(counts: Mapping[str, int], *, took_s: float, sent: int) -> None:
    saves = counts["saves"]
    line(f"{saves:,} saves of {counts['begun']:,} runs in {took_s:.1f} s, {saves / took_s:.0f} a second")
    line(f"{counts['deleted']} runs were deleted afterwards, {counts['hidden']} hidden, {counts['moved']} moved")
    a_second = conf.settings().shards / conf.settings().flush_window_s
    line(f"{sent:,} flush messages for {saves:,} saves: at most {a_second:.0f} a second, however many saves")


def _tell_lag(counters: Mapping[str, float]) -> None:
    p50, p99 = (measure.lag_s(counters, q) for q in (0.50, 0.99))
    if p50 is None or p99 is None:
        raise RuntimeError("No run was flushed.")
    line(f"From commit to visible: p50 {p50:.2f} s, p99 {p99:.2f} s (a window is {conf.settings().flush_window_s:g} s)")


def _show(page: Page, then: Sequence[Card], now: Sequence[Card]) -> None:
    line(str(page))
    line(f"     {'before':<46}  after")
    for rank in range(max(len(then), len(now))):
        line(f"  {rank + 1}  {_cell(then, rank):<46}  {_cell(now, rank)}".rstrip())
    line()


def _cell(shown: Sequence[Card], rank: int) -> str:
    if rank >= len(shown):
        return ""
    card = shown[rank]
    return f"{card.title:<31} {card.ago:>14}"


def _new_query(workspace: int, old_ms: float) -> None:
    new_ms = measure.best_ms(measure.statement(recent_workflows(workspace)))
    line(f"The new query: best of 3: {new_ms:.2f} ms; the old one took {old_ms:.1f} ms")
    plan = recent_workflows(workspace).explain(analyze=True, costs=False)
    for each in plan.splitlines():
        line(f"  | {each}")


def _check(pages: Sequence[Page]) -> bool:
    heading("Is the table exact?")
    with step("An independent query over all history, EXCEPT ALL both ways") as came_of_it:
        differing = oracle.differences()
        came_of_it("DIFFERENT" if differing else f"equal, {oracle.expected_rows():,} rows")
    for difference in differing:
        line(str(difference))
    disagreeing = [page for page in pages if not page.agrees()]
    for page in disagreeing:
        line(f"DIFFERENT from the old query's answer: {page}")
    return not differing and not disagreeing
