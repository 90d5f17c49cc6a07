"""What a save costs more with each way to follow it: time, statements, round trips, messages, WAL."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

from django.db import connection, connections, transaction
from django.db.models.signals import post_save

from benchmarks import peers
from benchmarks.figures import Figures, ratios
from benchmarks.stage import Stage, execute
from benchmarks.timing import quantile
from demo.bots.models import SavedRun
from demo.narration import step
from workflows_tasks import conf
from workflows_tasks.capture import nudge
from workflows_tasks.projection.flush import flush_all

BARE: Final = "bare save"
BUSY: Final = "ours, busy shard"
QUIET: Final = "ours, quiet shard"
DELAY: Final = "task.delay() per save"
SYNC: Final = "upsert in the signal"
PING: Final = "a PING to Redis per save"

UNDER_WAY: Final = 40
"""Runs that execute at the same time, each saved again and again."""

WARM_UP: Final = 30
WINDOW: Final = 350
"""Saves of one flush window at the load that the goals speak of."""


class Way:
    """One way to follow saves: what listens to them, and whether the triggers are on."""

    def __init__(self, *receivers: Any, ours: bool = False, before: Callable[[], None] = lambda: None) -> None:
        self.before = before
        self._receivers = list(post_save.receivers) if ours else []
        # A session of its own: one that turns triggers on and off plans all its statements anew each time.
        self._connection = connection.copy()
        self.role = "origin" if ours else "replica"
        with self._connection.cursor() as cursor:
            cursor.execute(f"SET session_replication_role = {self.role}")
        with self.listening():
            for each in receivers:
                post_save.connect(each, sender=SavedRun, weak=False)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """For as long as the context lasts, alone."""
        was, connections["default"] = connections["default"], self._connection
        with self.listening():
            yield
        connections["default"] = was

    @contextmanager
    def listening(self) -> Iterator[None]:
        """In place of all other receivers, and looked up once, so that no save is the first."""
        was, post_save.receivers = post_save.receivers, self._receivers
        post_save.sender_receivers_cache.clear()
        post_save.has_listeners(SavedRun)
        try:
            yield
        finally:
            post_save.receivers = was
            post_save.sender_receivers_cache.clear()


def ways() -> Mapping[str, Way]:
    return {
        BARE: Way(),
        BUSY: Way(ours=True),
        QUIET: Way(ours=True, before=_quiet),
        DELAY: Way(peers.delay_on_save),
        SYNC: Way(peers.upsert_on_save),
        PING: Way(peers.ping_on_save),
    }


def _quiet() -> None:
    """No flush is due: no marker in Redis, and this process knows of none."""
    nudge.reset()
    for shard in range(conf.settings().shards):
        nudge.unmark(shard)


def measure(stage: Stage, figures: Figures, *, saves: int) -> None:
    """Every way saves the same runs in turn, so that each is measured on the same minute of the same machine."""
    contenders = ways()
    with step(f"Saves: {saves:,} by each of {len(contenders)} ways, in turn") as came_of_it:
        came_of_it(_times(stage, figures, contenders, saves))
    with step("Saves: statements and round trips in a busy window"):
        _counts(stage, figures, contenders)
    with step("Saves: WAL of the log and of the table") as came_of_it:
        came_of_it(_wal(stage, figures, contenders))


def _save(run: SavedRun) -> None:
    """A step of an execution, as a host saves it."""
    with transaction.atomic():
        run.state["step"] += 1
        run.save()


def under_way(stage: Stage, state_bytes: int = 0, count: int = UNDER_WAY) -> list[SavedRun]:
    """New runs in workspaces drawn by the length of their history: so a quarter of them are the heaviest's."""
    draw = random.Random(7)
    drawn = draw.choices(stage.shapes, [shape.runs for shape in stage.shapes], k=count)
    # Hexadecimal digits of chance: a text that compresses by half, as prompts and answers do.
    return [
        SavedRun.objects.create(
            workspace_id=shape.id, uid=f"ada-{draw.randrange(1, 30)}", parent_version_id=1 + draw.randrange(1_600),
            state={"step": 0, "output": draw.randbytes(state_bytes // 2).hex()},
        )
        for shape in drawn
    ]  # fmt: skip


def _times(stage: Stage, figures: Figures, contenders: Mapping[str, Way], saves: int) -> str:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    draw, order, runs = random.Random(11), list(contenders), under_way(stage, 8_000)
    _end_window(stage)
    for turn in range(WARM_UP + saves):
        draw.shuffle(order)
        run = runs[turn % len(runs)]
        if turn % WINDOW == 0:
            _end_window(stage)
        for name in order:
            way = contenders[name]
            with way.installed():
                if name == BUSY:
                    nudge._due_s.update(dict.fromkeys(range(conf.settings().shards), time.monotonic() + 60))
                else:
                    way.before()
                started = time.perf_counter()
                _save(run)
                took_s = time.perf_counter() - started
            if turn >= WARM_UP:
                times[name].append(1e6 * took_s)
    _end_window(stage)
    return _judged(figures, times)


def _judged(figures: Figures, times: Mapping[str, Sequence[float]]) -> str:
    """Medians, and what each adds to the bare save of its own turn."""
    added = {name: [one - bare for one, bare in zip(took, times[BARE], strict=True)] for name, took in times.items()}
    for name, took in times.items():
        figures.add("save", "total", name, "µs", took)
        if name != BARE:
            figures.add("save", "added", name, "µs", added[name])
            figures.add("save", "added p95", name, "µs", [quantile(took, 0.95) - quantile(times[BARE], 0.95)])
    middle = {name: median(values) for name, values in added.items()}
    for case, other, unit in ((BUSY, DELAY, "× task.delay()"), (BUSY, PING, "× the PING"), (BUSY, SYNC, "× the upsert"),
                              (QUIET, DELAY, "× task.delay()")):  # fmt: skip
        figures.add("save", "added", case, unit, [middle[case] / middle[other]])
    return ", ".join(f"{name} adds {middle[name]:.0f} µs" for name in (BUSY, QUIET, DELAY, PING))


def _end_window(stage: Stage) -> None:
    """What waits is written, and what was sent for it is forgotten."""
    flush_all()
    nudge.reset()
    stage.forget_messages()


def _counts(stage: Stage, figures: Figures, contenders: Mapping[str, Way]) -> None:
    """What a save of one busy window asks of PostgreSQL and Redis, counted by the servers where they count."""
    for name in (BARE, BUSY, DELAY, SYNC):
        runs, statements = under_way(stage), 0
        _end_window(stage)

        def counting(run: Any, *arguments: Any) -> Any:
            nonlocal statements
            statements += 1
            return run(*arguments)

        if name == BUSY:  # as flushes that have just ended leave it
            for shard in range(conf.settings().shards):
                nudge.mark(shard, conf.settings().flush_window_s)
        before = stage.redis_reads()
        with contenders[name].installed(), connection.execute_wrapper(counting):
            for turn in range(WINDOW):
                _save(runs[turn % len(runs)])
        figures.add("save", "counts", name, "SQL statements a save", [statements / WINDOW])
        figures.add("save", "counts", name, "Redis round trips a save", [(stage.redis_reads() - before) / WINDOW])
    _end_window(stage)


def _wal(stage: Stage, figures: Figures, contenders: Mapping[str, Way]) -> str:
    """Bytes of WAL a save: of the run itself, of the log, and of the flush that follows, window by window."""
    own, log, flushed = [], [], []
    runs = under_way(stage, 8_000)
    for _ in range(3):
        _end_window(stage)
        with contenders[BARE].installed():
            own.append(_written(lambda: _window(runs)))
        with contenders[BUSY].installed():
            log.append(_written(lambda: _window(runs)) - own[-1])
        flushed.append(_written(lambda: _end_window(stage)))
    figures.add("save", "WAL", "the run's own", "bytes a save", own)
    figures.add("save", "WAL", "the change log", "bytes a save", log)
    figures.add("save", "WAL", "the flush", "bytes a save", flushed)
    ours = [one + other for one, other in zip(log, flushed, strict=True)]
    shares = [100 * each for each in ratios(ours, own)]
    share = figures.add("save", "WAL", "all of ours", "% of the run's own", shares)
    return f"{share.median:.1f} % of the run's own"


def _window(runs: Sequence[SavedRun]) -> None:
    for turn in range(WINDOW):
        _save(runs[turn % len(runs)])


def _written(act: Callable[[], None]) -> float:
    ((before,),) = execute("SELECT pg_current_wal_insert_lsn()")
    act()
    ((size,),) = execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s::pg_lsn)", [before])
    return float(size) / WINDOW
