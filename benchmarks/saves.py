"""What a save costs more with each way to follow it: time, statements, round trips, messages, WAL."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

from django.db import connection, transaction
from django.db.models.signals import post_save

from benchmarks import peers
from benchmarks.figures import Figures, ratios
from benchmarks.stage import Stage, execute
from benchmarks.timing import quantile
from demo.bots.models import SavedRun
from demo.narration import step
from workflows_tasks import conf
from workflows_tasks.flush import flush

BARE: Final = "bare save"
OURS: Final = "ours"
DELAY: Final = "task.delay() per save"
SYNC: Final = "upsert in the signal"
BATCHES: Final = "celery-batches"
LIMIT: Final = "a PING to Redis per save"

SAVES_PER_WINDOW: Final = 350
"""After so many saves of ours a window is over, as at 350 saves a second: its flush has freed the markers."""

UNDER_WAY: Final = 40
"""Runs that execute at the same time, each saved again and again."""

WARM_UP: Final = 30
WINDOWS: Final = 3

CASES: Final = ((40, 0), (40, 8_000), (350, 8_000))
"""(runs under way, bytes of state). 350 under way are saved once a second each: nothing coalesces but by the key."""


class Receivers:
    """What listens to a save of a run while one contender has its turn."""

    def __init__(self, *receive: Any, ours: bool = False) -> None:
        was = post_save.receivers
        self._receivers = list(was) if ours else []
        with self.installed():
            for each in receive:
                post_save.connect(each, sender=SavedRun, weak=False)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """In place of all others, and looked up once, so that no save is the first."""
        was, post_save.receivers = post_save.receivers, self._receivers
        post_save.sender_receivers_cache.clear()
        post_save.has_listeners(SavedRun)
        try:
            yield
        finally:
            post_save.receivers = was
            post_save.sender_receivers_cache.clear()


def contenders() -> Mapping[str, Receivers]:
    return {
        BARE: Receivers(),
        OURS: Receivers(ours=True),
        DELAY: Receivers(peers.delay_on_save),
        SYNC: Receivers(peers.upsert_on_save),
        BATCHES: Receivers(peers.batch_on_save),
        LIMIT: Receivers(peers.ping_on_save),
    }


def measure(stage: Stage, figures: Figures, *, saves: int) -> None:
    """Every contender saves the same runs in turn, so that each is measured on the same minute of the same machine."""
    ways = contenders()
    with step(f"Saves: {saves:,} by each of {len(ways)} contenders, in turn") as came_of_it:
        came_of_it(_times(stage, figures, ways, saves))
    with step("Saves: statements, round trips and messages"):
        bare = _count(stage, ways[BARE])
        for name in list(ways)[1:]:
            for unit, count in _count(stage, ways[name]).items():
                figures.add("save", "counts per save", name, f"{unit} added", [count - bare[unit]])
    for count, state_bytes in CASES:
        with step(f"Saves: WAL, {count} runs under way with {state_bytes:,} bytes of state") as came_of_it:
            came_of_it(_wal(stage, figures, ways, count, state_bytes))


def _save(run: SavedRun) -> None:
    """A step of an execution, as a host saves it."""
    with transaction.atomic():
        run.state["step"] += 1
        run.save()


def under_way(stage: Stage, state_bytes: int = 0, count: int = UNDER_WAY) -> list[SavedRun]:
    """New runs in workspaces drawn by the length of their history: so a quarter of them are the heaviest's."""
    draw = random.Random(7)
    weights = [shape.runs for shape in stage.shapes]
    drawn = draw.choices(stage.shapes, weights, k=count)
    # Hexadecimal digits of chance: a text that compresses by half, as prompts and answers do.
    return [
        SavedRun.objects.create(
            workspace_id=shape.id,
            uid=f"ada-{draw.randrange(1, 30)}",
            parent_version_id=1 + draw.randrange(1_600),
            state={"step": 0, "output": draw.randbytes(state_bytes // 2).hex()},
        )
        for shape in drawn
    ]


def _times(stage: Stage, figures: Figures, ways: Mapping[str, Receivers], saves: int) -> str:
    times: dict[str, list[float]] = {name: [] for name in ways}
    draw, order, runs = random.Random(11), list(ways), under_way(stage)
    _end_window(stage)
    for turn in range(WARM_UP + saves):
        draw.shuffle(order)
        run = runs[turn % len(runs)]
        if turn % SAVES_PER_WINDOW == WARM_UP:
            _end_window(stage)
        for name in order:
            with ways[name].installed():
                started = time.perf_counter()
                _save(run)
                taken_s = time.perf_counter() - started
            if turn >= WARM_UP:
                times[name].append(1e6 * taken_s)
    _end_window(stage)
    return _tell(figures, times)


def _tell(figures: Figures, times: Mapping[str, Sequence[float]]) -> str:
    """Medians, and what each adds to the bare save of its own turn."""
    added: dict[str, list[float]] = {}
    for name, taken in times.items():
        figures.add("save", "total", name, "µs", taken)
        figures.add("save", "total p99", name, "µs", [quantile(taken, 0.99)])
        added[name] = [one - bare for one, bare in zip(taken, times[BARE], strict=True)]
    for name in list(times)[1:]:
        figures.add("save", "added", name, "µs", added[name])
        figures.add("save", "added p99", name, "µs", [quantile(times[name], 0.99) - quantile(times[BARE], 0.99)])
    added_by = {name: median(values) for name, values in added.items()}
    figures.add("save", "added", OURS, "× task.delay()", [added_by[OURS] / added_by[DELAY]])
    return ", ".join(f"{name} adds {added_by[name]:.0f} µs" for name in (OURS, DELAY, LIMIT))


def _end_window(stage: Stage) -> None:
    """What waits is written, and what was sent for it is forgotten."""
    for shard in range(conf.settings().shards):
        flush(shard)
    stage.forget_messages()


def _count(stage: Stage, way: Receivers) -> dict[str, float]:
    """What a save of one window asks of PostgreSQL, Redis and the broker: counted by the servers, where they count."""
    runs, statements = under_way(stage), 0
    _end_window(stage)

    def counting(run: Any, *arguments: Any) -> Any:
        nonlocal statements
        statements += 1
        return run(*arguments)

    before = stage.redis_reads()
    with way.installed(), connection.execute_wrapper(counting):
        window(runs)
    counts = {
        "SQL statements": statements,
        "Redis round trips": stage.redis_reads() - before,
        "messages": stage.messages(),
    }
    _end_window(stage)
    return {unit: count / SAVES_PER_WINDOW for unit, count in counts.items()}


def wal_case(count: int, state_bytes: int) -> str:
    return f"WAL, {count} under way, state {state_bytes // 1000} kB"


def _wal(stage: Stage, figures: Figures, ways: Mapping[str, Receivers], count: int, state_bytes: int) -> str:
    """Bytes of WAL a save, of the run's own table and of ours, window by window."""
    runs = under_way(stage, state_bytes, count)
    _end_window(stage)
    case = wal_case(count, state_bytes)
    found: dict[str, list[float]] = {name: [] for name in (BARE, OURS, SYNC, DELAY, BATCHES)}
    for _ in range(WINDOWS):
        with ways[OURS].installed():
            own = written(lambda: window(runs))
        found[BARE].append(own)
        found[OURS].append(written(lambda: _end_window(stage)))
        with ways[SYNC].installed():
            found[SYNC].append(written(lambda: window(runs)) - own)
        with ways[BARE].installed():  # and here is done what their worker does
            found[DELAY].append(written(lambda: window(runs, then=peers.upsert, every=1)) - own)
            found[BATCHES].append(written(lambda: window(runs, then=peers.upsert, every=peers.BATCH)) - own)
    for name, values in found.items():
        figures.add("save", case, name, "bytes", values)
    shares = [100 * each for each in ratios(found[OURS], found[BARE])]
    share = figures.add("save", case, OURS, "% of the run's own", shares)
    return f"ours {share.median:.1f} % of the run's own"


def window(
    runs: Sequence[SavedRun], *, then: Callable[[set[int]], None] = lambda _: None, every: int = SAVES_PER_WINDOW
) -> None:
    """A window's saves; after ``every`` so many ``then`` gets the runs that were saved."""
    for start in range(0, SAVES_PER_WINDOW, every):
        saved = [runs[turn % len(runs)] for turn in range(start, min(start + every, SAVES_PER_WINDOW))]
        for run in saved:
            _save(run)
        then({run.pk for run in saved})


def written(act: Callable[[], None]) -> float:
    """Bytes of WAL for each save of a window."""
    ((before,),) = execute("SELECT pg_current_wal_insert_lsn()")
    act()
    ((size,),) = execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s::pg_lsn)", [before])
    return float(size) / SAVES_PER_WINDOW
