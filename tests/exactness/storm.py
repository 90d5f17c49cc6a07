"""Many writers and fillers on the same keys of one shard at once: who locks rows in another order deadlocks."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from tests.exactness.stepping import Actor
from tests.hosts.adapter import Host, moment
from workflows_tasks import events, projection, transactions

WRITERS, FILLERS = 8, 2
WORKFLOWS, USERS = 20, 50
IDS_PER_BATCH = 200
DEADLOCK = "40P01"


class Storm:
    """A thousand keys, each with one run, which is used now and then earlier or later; and who writes them."""

    def __init__(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        self.retries: Counter[str | None] = Counter()
        self._host = host
        self._minute = itertools.count(1)
        self._done = threading.Event()
        users = [host.make_user() for _ in range(USERS)]
        workspaces = [host.make_workspace()]
        self._runs = [
            run
            for _ in range(WORKFLOWS)
            for run in host.make_runs(USERS, workspaces=workspaces, workflows=[host.make_workflow()], users=users)
        ]
        projection.fill()
        monkeypatch.setattr(events, "retrying", self._count)

    def rage(self, batches: int, *, until: str | None = None) -> None:
        """Let every writer write so many batches while fillers fill; no more once the error ``until`` was seen."""
        with quick_deadlock_checks():
            writers = [Actor(lambda seed=seed: self._write(seed, batches, until)) for seed in range(WRITERS)]  # type: ignore[misc]
            fillers = [Actor(self._keep_filling) for _ in range(FILLERS)]
            for writer in writers:
                writer.finish(within_s=600)
            self._done.set()
            for filler in fillers:
                filler.finish()

    def _write(self, seed: int, batches: int, until: str | None) -> None:
        chance = random.Random(seed)
        for number in range(batches):
            if until in self.retries:
                break
            runs = chance.sample(self._runs, IDS_PER_BATCH)
            # One in three goes back in time, so that its row is looked for and set back.
            self._use(runs, next(self._minute) * (-1 if number % 3 == 2 else 1))
            try:
                projection.write(0, runs)
            except OperationalError as error:
                self.retries[transactions.sqlstate(error)] += 1

    def _use(self, runs: list[Any], minute: int) -> None:
        """The host's own write, which must not deadlock with itself."""
        chosen = self._host.run_model._base_manager.filter(pk__in=runs)
        with transaction.atomic():
            list(chosen.order_by("pk").select_for_update().values_list("pk"))
            chosen.update(**{self._host.used_at_field: moment(minute)})

    def _keep_filling(self) -> None:
        while not self._done.is_set():
            try:
                _, stale = projection.fill()
            except OperationalError as error:
                self.retries[transactions.sqlstate(error)] += 1
            else:
                projection.write(0, [row.run for row in stale])

    def _count(self, error: BaseException, **_: Any) -> None:
        self.retries[transactions.sqlstate(error)] += 1


@contextmanager
def quick_deadlock_checks() -> Iterator[None]:
    """Within, new connections look for a deadlock after 20 ms in place of a second."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '20ms'")
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {name} RESET deadlock_timeout")
