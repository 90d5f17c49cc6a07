"""Where everything is measured: the demo's host on servers of its own, with history at any scale."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

from demo import scratch
from demo.host import migrate, set_up_django
from demo.narration import counted, step
from demo.servers import PostgreSQL, Process, Valkey
from demo.shape import WorkspaceShape, shapes

POSTGRESQL: Final[Mapping[str, str]] = {
    "shared_buffers": "2GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "512MB",
    "effective_cache_size": "6GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "30min",
    # What is measured in WAL is what was written, not where the last checkpoint happened to be.
    "full_page_writes": "off",
    "temp_file_limit": "4GB",
    # When a table is vacuumed is decided by the benchmarks, the same for every contender.
    "autovacuum": "off",
}
"""A small server's settings. ``fsync`` is off (see demo/servers.py): commits cost no wait for a disk."""

DURABLE: Final[Mapping[str, str]] = {**POSTGRESQL, "fsync": "on", "full_page_writes": "on", "autovacuum": "on"}


@dataclass(frozen=True, slots=True)
class Stage:
    """A host with a loaded history; its table of recent workflows is filled and vacuumed."""

    directory: Path
    postgresql: PostgreSQL
    valkey: Valkey
    shapes: Sequence[WorkspaceShape]
    runs: int

    @contextmanager
    def broker(self) -> Iterator[redis.Redis]:
        """A client of the broker."""
        with redis.Redis(port=self.valkey.port, db=1) as client:
            yield client

    def forget_messages(self) -> None:
        with self.broker() as client:
            client.flushdb()

    def redis_reads(self) -> int:
        """How often the server has read what a client had sent: once for each round trip."""
        with self.broker() as client:
            return int(client.info("stats")["total_reads_processed"])

    def idle(self, queue: str) -> bool:
        """No message waits in a queue, and none is with a worker."""
        with self.broker() as client:
            return not client.llen(queue) and not client.hlen("unacked")

    def flush_messages(self) -> int:
        """Flush messages that the worker has received, from savers and from flushes: its log says so."""
        return (self.directory / "worker.log").read_text().count("Task workflows_tasks.tasks.flush[")

    @contextmanager
    def worker(
        self, queue: str, *, concurrency: int = 1, prefetch: int = 1, name: str = "worker", wait: bool = True
    ) -> Iterator[Process]:
        """A Celery worker on a queue, ready unless nobody waits for that; stopped at the end."""
        argv = ["worker", "-Q", queue, "-n", f"{name}@%h", "--pool", "prefork", "--concurrency", str(concurrency)]
        argv += ["--prefetch-multiplier", str(prefetch), "--without-mingle", "--without-gossip"]
        with self._celery(argv, name, " ready." if wait else "") as child:
            yield child

    @contextmanager
    def beat(self) -> Iterator[Process]:
        """Celery beat with the package's own entries, as in an installation; ended at the end."""
        with self._celery(["beat", "--schedule", str(self.directory / "schedule"), "--pidfile", ""], "beat") as child:
            yield child

    @contextmanager
    def _celery(self, argv: Sequence[str], name: str, ready: str = "") -> Iterator[Process]:
        log = self.directory / f"{name}.log"
        log.write_text("")
        child = Process([sys.executable, "-m", "celery", "-A", "benchmarks.peers", *argv, "--loglevel", "info"], log)
        try:
            child.launch()
            if ready:
                child.wait_until(lambda: ready in log.read_text())
            yield child
        finally:
            child.stop(within_s=5)


@contextmanager
def staged(runs: int, settings: Mapping[str, str] = POSTGRESQL) -> Iterator[Stage]:
    """A host with a history of about ``runs`` runs, for as long as the context lasts.

    The skew is a real platform's at any scale: see ``demo.shape``. This process must not have set up Django before.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(scratch.directory())
        postgresql = PostgreSQL(directory / "postgresql", settings=settings)
        valkey = Valkey(directory / "valkey")
        for server in (postgresql, valkey):
            stack.callback(server.stop)
            server.start()
        set_up_django({
            "DATABASE_URL": postgresql.url,
            "REDIS_URL": valkey.url,
            "CELERY_BROKER_URL": valkey.url.removesuffix("/0") + "/1",
        })  # fmt: skip
        migrate()
        stack.callback(_disconnect)
        every = shapes(runs)
        loaded = _load(every)
        yield Stage(directory, postgresql, valkey, every, loaded)


def _load(every: Sequence[WorkspaceShape]) -> int:
    from demo import history
    from workflows_tasks import history as fills

    with step(f"Loading history of {counted(len(every), 'workspace')}") as came_of_it:
        loaded = history.load(every)
        came_of_it(counted(loaded, "run"))
    with step("Filling the table") as came_of_it:
        came_of_it(counted(fills.fill(fills.EVERYWHERE), "row"))
    with step("VACUUM ANALYZE"):
        history.vacuum()
    return loaded


def execute(statement: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
    """Run a statement on the host's database; its rows, if it returns any."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return list(cursor.fetchall()) if cursor.description else []


def _disconnect() -> None:
    from django.db import connections

    connections.close_all()
