"""One round of the stress: three writers change six runs while four flushers and a filler work on two shards.

Delays are where interleavings are made: in the host's transactions, between a commit and its announcement, after each
step of a flush, and, by a trigger, before each row that a statement writes after it took its snapshot. Each thread has
its own pace, so that much may happen while another makes one step. A round is short and goes on from where the one
before it ended: what is wrong must not be put right by later changes before anybody looks.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, Protocol

from django.conf import settings
from django.db import DatabaseError, connection, connections

from tests import hosts
from tests.exactness.changes import Cast, change
from tests.exactness.scene import TABLE
from tests.exactness.stepping import BEFORE, STEPS
from tests.oracle import expected, flush_all, stored
from workflows_tasks import dispatch, events, inbox, projection
from workflows_tasks.flush import flush
from workflows_tasks.ids import encode
from workflows_tasks.sql.fragments import Workspaces

WRITERS, CHANGES_EACH, SHARDS, FLUSHERS = 3, 2, 2, 4
PACES: Final = (0.0, 0.1, 1.0)
"""What a thread makes of the longest delay, in one round."""

TOLD_EVERY: Final = 500
"""Rounds between two lines of progress."""

TRIGGER: Final = f"""
    CREATE OR REPLACE FUNCTION exactness_nap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF random() < 0.5 THEN
            PERFORM pg_sleep(random() * coalesce(nullif(current_setting('exactness.delay_s', true), ''), '0')::float);
        END IF;
        RETURN coalesce(NEW, OLD);
    END $$;
    CREATE OR REPLACE TRIGGER exactness_nap BEFORE INSERT OR UPDATE OR DELETE ON {TABLE}
        FOR EACH ROW EXECUTE FUNCTION exactness_nap()
"""

_here: Final = threading.local()


class Sink(Protocol):
    """Where a round says what it came to."""

    rounds: int
    inexact: list[int]
    errors: list[str]
    retries: int


def settings_for_rounds() -> dict[str, Any]:
    """Two shards, so that half of what concerns a run concerns another shard; and no announcement lost for time."""
    return {**settings.RECENT_WORKFLOWS, "SHARDS": SHARDS, "SAVE_TIMEOUT_S": 5.0, "BROKER_TIMEOUT_S": 5.0}


def _leave(together: threading.Barrier) -> None:
    """Each thread closes its own connections: none may take two of these."""
    together.wait()
    connections.close_all()


@contextmanager
def stage(delay_s: float) -> Iterator[Callable[[int, Sink], None]]:
    """Threads with connections, a cast, and delays wherever the package can be delayed; yields what plays a round."""
    real = {step: getattr(module, name) for step, (module, name) in {**STEPS, **BEFORE}.items()}
    retrying = events.retrying
    with connection.cursor() as cursor:
        cursor.execute(TRIGGER)
    for step, (module, name) in {**STEPS, **BEFORE}.items():
        setattr(module, name, _delayed(real[step]))
    threads = WRITERS + FLUSHERS + 1
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: _enter(delay_s)) as pool:
            cast = Cast(hosts.current(), SHARDS)
            cast.clear()
            yield lambda number, sink: _play(pool, cast, number, sink)
            leaving = threading.Barrier(threads)
            for _ in range(threads):
                pool.submit(_leave, leaving)
    finally:
        events.retrying = retrying
        for step, (module, name) in {**STEPS, **BEFORE}.items():
            setattr(module, name, real[step])
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER exactness_nap ON {TABLE}")


class Progress:
    """Counts what the threads of a round get done, so that one can stand still until others have gone on."""

    def __init__(self) -> None:
        self._done = 0
        self._changed = threading.Condition()

    def made(self) -> None:
        with self._changed:
            self._done += 1
            self._changed.notify_all()

    def wait_for(self, count: int, *, within_s: float) -> None:
        """Wait until so much more is done. All others may be waiting for this thread, so not for long."""
        with self._changed:
            enough = self._done + count
            self._changed.wait_for(lambda: self._done >= enough, timeout=within_s)


_progress: Final = Progress()


def nap() -> None:
    """Stand still for a while, or until others have gone on, in the threads of a round; not elsewhere."""
    chance: random.Random | None = getattr(_here, "chance", None)
    if chance is None or chance.random() < 0.5:
        return
    if chance.random() < 0.5:
        time.sleep(chance.random() * _here.delay_s * _here.pace)
    else:
        _progress.wait_for(chance.randint(1, 4), within_s=_here.delay_s * _here.pace)


def _enter(delay_s: float) -> None:
    _here.delay_s = delay_s


def _delayed(function: Callable[..., Any]) -> Callable[..., Any]:
    def delayed(*args: Any, **kwargs: Any) -> Any:
        nap()
        result = function(*args, **kwargs)
        nap()
        return result

    return delayed


def _play(pool: ThreadPoolExecutor, cast: Cast, number: int, sink: Sink) -> None:
    """One round, whose number is its seed."""
    sink.rounds += 1
    events.retrying = lambda *_, **__: _count_retry(sink)
    stop = threading.Event()
    seeds = iter(range(number * 100, number * 100 + 100))

    def submit(act: Callable[..., None], *args: Any) -> Any:
        return pool.submit(_acting, next(seeds), act, *args)

    writers = [submit(_write, cast) for _ in range(WRITERS)]
    workers = [submit(_keep_flushing, stop, sink, worker % SHARDS) for worker in range(FLUSHERS)]
    workers.append(submit(_keep_filling, cast, stop))
    for future in writers:
        _gather(future, sink)
    stop.set()
    for future in workers:
        _gather(future, sink)
    flush_all()
    if Counter(stored()) != Counter(expected(cast.host)):
        sink.inexact.append(number)
        cast.clear()
    if any(shard.claims or shard.aside for shard in inbox.status()):
        sink.errors.append(f"round {number}: {inbox.status()}")


def _acting(seed: int, act: Callable[..., None], *args: Any) -> None:
    chance = random.Random(seed)
    _here.pace = chance.choice(PACES)
    with connection.cursor() as cursor:
        cursor.execute(f"SET exactness.delay_s = {_here.delay_s * _here.pace}")
    _here.chance = chance
    try:
        act(*args)
    finally:
        _here.chance = None


def _gather(future: Any, sink: Sink) -> None:
    error = future.exception()
    if error is not None:
        sink.errors.append(repr(error))


def _count_retry(sink: Sink) -> None:
    sink.retries += 1


def _write(cast: Cast) -> None:
    for _ in range(CHANGES_EACH):
        change(cast, _here.chance, nap)
        _progress.made()
        nap()


def _keep_flushing(stop: threading.Event, sink: Sink, shard: int) -> None:
    while not stop.is_set():
        try:
            if flush(shard).runs:
                _progress.made()
            else:
                time.sleep(0.0005)
        except DatabaseError as error:  # its claim went back
            sink.errors.append(repr(error))


def _keep_filling(cast: Cast, stop: threading.Event) -> None:
    while not stop.is_set():
        key = _here.chance.choice(cast.workspaces).pk
        _, stale = projection.fill(Workspaces(key, key))
        dispatch.deliver({encode(row.run): row.shard for row in stale}, patient=True)
        _progress.made()
        nap()
