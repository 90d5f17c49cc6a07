"""Random rounds: writers of every kind, flushers, a filler and a checker at once; at the end the table must be exact.

::

    python -m tests.concurrency.rounds --rounds 2000 [--delay-ms 8] [--seed 0] [--mutation no-lock]

It looks for interleavings that nobody thought of; what it finds becomes a test that steps through it. Flushers and the
filler are killed, stopped, and have their sessions terminated, before any of their statements. It starts its own
PostgreSQL unless ``DATABASE_URL`` names one, and makes a database there. It ends with status 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

WRITERS, WRITES_EACH, FLUSHERS, SHARDS = 4, 8, 4, 2
SLOWNESS: Final = (0.1, 0.5, 1.0, 4.0)
"""What a thread makes of the longest delay, in one round: much may happen while a slow one makes one step."""

TOLD_EVERY: Final = 50
MOST_DRAINS: Final = 300
"""Flushes of every shard after which a round counts as never drained."""

ORACLE: Final = """
    SELECT DISTINCT ON (workspace, uid, workflow) workspace, uid, workflow, used_at, run FROM (
        SELECT run.workspace_id AS workspace, line.workflow_id AS workflow, run.used_at, run.id AS run,
               unnest(CASE WHEN run."user" <> '' THEN ARRAY['', run."user"] ELSE ARRAY[''] END) AS uid
        FROM run JOIN version ON version.id = run.version_id JOIN line ON line.id = version.line_id
        JOIN workspace ON workspace.id = run.workspace_id
        WHERE NOT run.hidden AND NOT workspace.hidden AND line.workflow_id IS NOT NULL
    ) AS counted ORDER BY workspace, uid, workflow, used_at DESC, run DESC
"""
"""What the table must say, without any of the package's SQL."""

OF_ROUNDS: Final = """
    CREATE TABLE chunk (workspace integer PRIMARY KEY, open boolean NOT NULL);
    CREATE TABLE refused (run integer PRIMARY KEY);
    CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF random() < 0.3 THEN
            PERFORM pg_sleep(random() * coalesce(nullif(current_setting('rounds.delay_s', true), ''), '0')::float);
        END IF;
        IF EXISTS (SELECT FROM refused WHERE run = NEW.last_run_id) THEN
            RAISE EXCEPTION 'run % is refused', NEW.last_run_id;
        END IF;
        RETURN coalesce(NEW, OLD);
    END $$;
    CREATE TRIGGER in_the_way BEFORE INSERT OR UPDATE OR DELETE ON workflows_tasks_workspacerecentworkflow
        FOR EACH ROW EXECUTE FUNCTION in_the_way()
"""
"""Chunks that are open; runs that somebody's trigger refuses; delays between a statement's snapshot and its writes."""

CLEAR: Final = """
    SET session_replication_role = replica;
    DELETE FROM run; DELETE FROM version; DELETE FROM line; DELETE FROM workflow; DELETE FROM workspace;
    DELETE FROM workflows_tasks_workspacerecentworkflow; DELETE FROM workflows_tasks_change;
    DELETE FROM chunk; DELETE FROM refused;
    UPDATE workflows_tasks_shard SET error = '', failing_since = NULL;
    {world};
    RESET session_replication_role
"""

_here: Final = threading.local()


class Killed(BaseException):
    """What being killed looks like from inside: nothing after it is done, and nobody catches it."""


@dataclass
class Outcome:
    """What the rounds came to."""

    rounds: int = 0
    inexact: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    """Differences that the change log of their snapshot does not explain."""
    unlike: list[str] = field(default_factory=list)
    """Snapshots in which ``compare`` did not find the differences that there were."""
    not_fresh: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        return [*self.inexact, *self.drift, *self.unlike, *self.not_fresh, *self.errors]

    def __str__(self) -> str:
        names = ("inexact", "drift", "unlike", "not_fresh", "errors")
        told = {name: len(getattr(self, name)) for name in names}
        return f"rounds={self.rounds} {' '.join(f'{k}={v}' for k, v in told.items())} seconds={self.seconds:.0f}"


@dataclass
class Pace:
    """How long and how often the threads of a round stand still, and how often they die."""

    delay_s: float
    crash: float


class Rounds:
    """Threads with connections of their own, and what they do in a round."""

    def __init__(self, pace: Pace, outcome: Outcome) -> None:
        self._pace = pace
        self._outcome = outcome
        self._counting = threading.Lock()

    def play(self, pool: ThreadPoolExecutor, number: int) -> None:
        """One round, whose number is its seed."""
        from django.db import connection

        from tests.concurrency.writers import NEW_WORLD

        chance = random.Random(number)
        with connection.cursor() as cursor:
            cursor.execute(CLEAR.format(world=NEW_WORLD))
            if number % 2:
                cursor.execute("INSERT INTO refused VALUES (5)")
        stop = threading.Event()
        with self._bounds(chance):
            writers = [pool.submit(self._act, number, n, self._write) for n in range(WRITERS)]
            others = [
                pool.submit(self._act, number, 10 + n, self._keep_flushing, stop, n % SHARDS) for n in range(FLUSHERS)
            ]
            if number % 3 == 0:  # not always: a fill puts right what flushes left missing, before anybody looks
                others.append(pool.submit(self._act, number, 20, self._keep_filling, stop))
            others.append(pool.submit(self._act, number, 21, self._keep_checking, stop))
            self._gather(number, writers)
            stop.set()
            self._gather(number, others)
            self._finish(number)
        self._outcome.rounds += 1

    def count(self, name: str, number: int = 1) -> None:
        with self._counting:
            self._outcome.counts[name] += number

    def _gather(self, number: int, futures: list[Any]) -> None:
        for future in futures:
            error = future.exception(timeout=120)
            if error is not None:
                self._outcome.errors.append(f"round {number}: {error!r}")

    @contextmanager
    def _bounds(self, chance: random.Random) -> Iterator[None]:
        """Slices, searches and scopes of this round are small, so that each is left unfinished again and again."""
        from workflows_tasks.projection import changes, decisions, scopes, searches

        chosen: list[tuple[Any, str, Any]] = [
            (decisions, "MOST_RECOMPUTED", chance.choice((1, 2, 5_000))),
            (changes, "MOST_TAKEN", chance.choice((1, 3, 8, 50))),
            (changes, "MOST_OF_WORKSPACE", chance.choice((1, 3, 50))),
            (scopes, "MOST_RUNS", chance.choice((4, 6, 20_000))),
            (scopes, "WORKSPACES_AT_ONCE", chance.choice((1, 2, 200))),
            (scopes, "FEW_RUNS", chance.choice((3, 10))),
            (searches, "PASS_RUNS", chance.choice((0, 5_000))),
            (searches, "RUNS_A_KEY", chance.choice((0, 3_000))),
            (searches, "WALKS", chance.choice((1, 20))),
            (searches, "PAGES", chance.choice(((1, 3), (1_000,)))),
        ]
        before = [(module, name, getattr(module, name)) for module, name, _ in chosen]
        for module, name, value in chosen:
            setattr(module, name, value)
        try:
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)

    def _act(self, number: int, actor: int, act: Callable[..., None], *args: Any) -> None:
        from django.db import connection

        _here.chance = random.Random(number * 100 + actor)
        _here.is_mortal = False
        _here.delay_s = self._pace.delay_s * _here.chance.choice(SLOWNESS)
        with connection.execute_wrapper(self._beside_each_statement):
            act(*args)

    def _beside_each_statement(self, execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        if _here.is_mortal and _here.chance.random() < self._pace.crash:
            self._die()
        self._nap(0.15)
        result = execute(sql, params, many, context)
        self._nap(0.15)
        return result

    def _nap(self, often: float = 0.5) -> None:
        if _here.chance.random() < often:
            time.sleep(_here.chance.random() * _here.delay_s)

    def _die(self) -> None:
        """Killed, or its session terminated, or stopped for a while."""
        from django.db import connection

        self.count("crashes")
        way = _here.chance.random()
        if way < 0.4:
            with suppress(Exception):
                connection.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        elif way < 0.8:
            raise Killed
        else:
            time.sleep(3 * self._pace.delay_s)

    def _write(self) -> None:
        from tests.concurrency.writers import write

        for _ in range(WRITES_EACH):
            write(_here.chance, self._nap, self.count)
            self._nap()

    @contextmanager
    def _mortal(self) -> Iterator[None]:
        from django.db import DatabaseError, InterfaceError, connection

        _here.is_mortal = True
        try:
            yield
        except Killed:
            connection.close()
        except (DatabaseError, InterfaceError) as error:
            cause = error.__cause__ or error
            self.count(f"flushes and fills: {type(cause).__name__}")
            connection.close()
        finally:
            _here.is_mortal = False

    def _keep_flushing(self, stop: threading.Event, shard: int) -> None:
        from workflows_tasks.projection.flush import flush

        while not stop.is_set():
            changes = 0
            with self._mortal():
                changes = flush(shard).changes
            self.count("changes flushed", changes)
            if not changes:
                time.sleep(0.002)

    def _keep_filling(self, stop: threading.Event) -> None:
        """A chunk is committed as open before its first write. One that is abandoned stays open, until somebody looks
        over its rows."""
        from tests.concurrency.writers import WORKSPACES

        while not stop.is_set():
            key = _here.chance.choice(WORKSPACES)
            with self._mortal():
                _set_open(key, is_open=True)
                if _here.chance.random() < 0.9:  # or it was cancelled before
                    self._fill(key)
                if _here.chance.random() < 0.8:  # or nobody comes back for it
                    _close(key)
                self.count("fills")
            time.sleep(_here.chance.random() * self._pace.delay_s)

    def _fill(self, key: int) -> None:
        from workflows_tasks import history

        # Written and not committed: flushes of what goes meanwhile do not see these rows.
        history.fill(history.Range(first=str(key), last=str(key)), before_commit=lambda _: self._nap())

    def _keep_checking(self, stop: threading.Event) -> None:
        from django.db import DatabaseError, connection

        while not stop.is_set():
            try:
                self._check()
            except DatabaseError as error:
                self.count(f"checker: {type(error.__cause__ or error).__name__}")
                connection.close()
            time.sleep(_here.chance.random() * self._pace.delay_s)

    def _check(self) -> None:
        """In one snapshot: every difference is found and explained, and a fresh page is the oracle's."""
        from workflows_tasks import history
        from workflows_tasks.comparison.compare import DRIFT, compare, snapshot

        with snapshot():
            self._nap()
            differs = _differing()
            differences = compare(history.EVERYWHERE)
            self.count("snapshots")
            self.count("differences", len(differences))
            for each in differences:
                self.count(each.state)
            self._outcome.drift += [f"{each}" for each in differences if each.state == DRIFT]
            compared = {(int(d.workspace), d.uid, int(d.workflow)) for d in differences}
            if compared != differs:
                self._outcome.unlike.append(f"compare {compared}, there were {differs}")
            self._check_fresh()

    def _check_fresh(self) -> None:
        from tests.concurrency.writers import WORKSPACES
        from workflows_tasks import recent_workflows

        oracle = _rows(ORACLE)
        waiting = _rows("SELECT workspace FROM workflows_tasks_change WHERE run IS NULL")
        workspace, user, limit = _here.chance.choice(WORKSPACES), _here.chance.choice(("a", "b", None)), 2
        page = [
            (row.published_run_id, row.last_used_at, row.last_run_id)
            for row in recent_workflows(workspace, user, limit, fresh=True)
        ]
        of_page = [row for row in oracle if row[:2] == (workspace, user or "")]
        true = sorted(((row[2], row[3], row[4]) for row in of_page), key=lambda row: row[1:], reverse=True)[:limit]
        self.count("fresh pages")
        if page == true:
            return
        what = f"workspace {workspace} user {user}: {page}, not {true}; {_around(workspace)}"
        if not any(of in {None, str(workspace)} for (of,) in waiting):
            self._outcome.not_fresh.append(what)
            return
        self.count("fresh pages that a scope explains")
        live = {(row[0], row[1], row[2], row[3], row[4]) for row in _rows(_EVERY_LIVE)}
        for workflow, used_at, run in page:
            if (workspace, user or "", workflow, used_at, run) not in live:
                self._outcome.not_fresh.append(f"not live: {what}")

    def _finish(self, number: int) -> None:
        """Nothing is refused any more, open chunks are looked over, and everything is flushed."""
        from django.db import connection

        from workflows_tasks.projection import changes
        from workflows_tasks.projection.flush import flush

        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM refused")
        changes.retry_quarantined()
        for (key,) in _rows("SELECT workspace FROM chunk WHERE open"):
            _close(key)
        for _ in range(MOST_DRAINS):
            if not _rows("SELECT 1 FROM workflows_tasks_change LIMIT 1"):
                break
            for shard in range(SHARDS):
                flush(shard)
        else:
            left = _rows("SELECT shard, workspace, run, lookup, key, low, high, error FROM workflows_tasks_change")
            self._outcome.errors.append(f"round {number} never drains: {left[:5]}")
        if wrong := _differing():
            self._outcome.inexact.append(f"round {number}: {wrong}")


_EVERY_LIVE: Final = ORACLE.replace("DISTINCT ON (workspace, uid, workflow) ", "")


def _rows(statement: str) -> list[Any]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def _around(workspace: int) -> str:
    """What a fault in a workspace is to be understood from, in the same snapshot."""
    asked = {
        "stored": "SELECT uid, published_run_id, last_used_at::text, last_run_id"
        f" FROM workflows_tasks_workspacerecentworkflow WHERE workspace_id = {workspace}",
        "log": "SELECT shard, shards, workspace, run, lookup, key, low, high, error FROM workflows_tasks_change",
        "chunks": "SELECT workspace FROM chunk WHERE open",
        "runs": f'SELECT id, "user", version_id, hidden, used_at::text FROM run WHERE workspace_id = {workspace}',
        "versions": "SELECT id, line_id FROM version",
        "lines": "SELECT id, workflow_id FROM line",
    }
    return "; ".join(f"{name} {_rows(statement)}" for name, statement in asked.items())


def _differing() -> set[tuple[int, str, int]]:
    """Keys whose row is not the oracle's."""
    stored = "SELECT workspace_id, uid, published_run_id, last_used_at, last_run_id FROM "
    stored += "workflows_tasks_workspacerecentworkflow"
    return {(row[0], row[1], row[2]) for row in set(_rows(stored)) ^ set(_rows(ORACLE))}


def _set_open(key: int, *, is_open: bool) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO chunk VALUES (%s, %s) ON CONFLICT (workspace) DO UPDATE SET open = excluded.open",
            [key, is_open],
        )


def _close(key: int) -> None:
    """The look and the chunk's end are one transaction."""
    from workflows_tasks import history

    with history.read_committed({}):
        history.recheck_filled(history.Range(first=str(key), last=str(key)))
        _set_open(key, is_open=False)


def _unfilled(workspace: str) -> Any:
    from workflows_tasks import history

    return history.compose("EXISTS (SELECT FROM chunk WHERE open AND workspace = {workspace})", workspace=workspace)


def run(options: argparse.Namespace) -> Outcome:
    """All rounds, in this process."""
    from django.db import connection

    from tests import mutants
    from workflows_tasks import history
    from workflows_tasks.capture import nudge

    nudge.nudge = lambda *_: None  # flushers flush all the time
    history.register_unfilled(_unfilled, str)
    if options.mutation:
        mutants.apply(options.mutation)
    delay_s = options.delay_ms / 1000
    with connection.cursor() as cursor:
        cursor.execute(OF_ROUNDS)
        name = connection.ops.quote_name(connection.settings_dict["NAME"])
        cursor.execute(f"ALTER DATABASE {name} SET rounds.delay_s = '{delay_s}'")
        cursor.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'")
    outcome, began_s, told = Outcome(), time.monotonic(), 0
    rounds = Rounds(Pace(delay_s, options.crash), outcome)
    with ThreadPoolExecutor(WRITERS + FLUSHERS + 2) as pool:
        for number in range(options.seed, options.seed + options.rounds):
            rounds.play(pool, number)
            outcome.seconds = time.monotonic() - began_s
            for fault in outcome.faults[told:]:
                print(f"round {number}: {fault}", flush=True)  # noqa: T201
            told = len(outcome.faults)
            if outcome.rounds % TOLD_EVERY == 0:
                print("...", outcome, flush=True)  # noqa: T201
            if options.stop and outcome.faults:
                break
        outcome.counts["deadlocks"] = _rows(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        )[0][0]
        barrier = threading.Barrier(WRITERS + FLUSHERS + 2)
        for _ in range(WRITERS + FLUSHERS + 2):
            pool.submit(_leave, barrier)
    return outcome


def _leave(together: threading.Barrier) -> None:
    """Each thread closes its own connections: none may take two of these."""
    from django.db import connections

    together.wait(20)
    connections.close_all()


@contextmanager
def database() -> Iterator[None]:
    """A database of our own, on a server that is given or our own; Django is set up on it."""
    from demo.servers import PostgreSQL

    with ExitStack() as servers:
        url = os.environ.get("DATABASE_URL")
        if not url:
            directory = Path(servers.enter_context(tempfile.TemporaryDirectory(prefix="concurrency-rounds-")))
            directory.chmod(0o755)  # as root PostgreSQL runs as somebody else, who must reach its files
            server = PostgreSQL(directory / "postgresql")
            servers.callback(server.stop)
            server.start()
            url = server.url
        name = f"rounds_{os.getpid()}"
        _on_server(url, f"CREATE DATABASE {name}")
        servers.callback(_on_server, url, f"DROP DATABASE {name} WITH (FORCE)")
        os.environ["DATABASE_URL"] = f"{url.rpartition('/')[0]}/{name}"
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.concurrency.settings"
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0, run_syncdb=True)
        yield
        from django.db import connections

        connections.close_all()


def _on_server(url: str, statement: str) -> None:
    from tests.sessions import driver

    with driver(url) as server:
        server.execute(statement)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.concurrency.rounds", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--delay-ms", type=float, default=8.0, help="longest of the random delays")
    parser.add_argument("--crash", type=float, default=0.01, help="chance of dying before a statement")
    parser.add_argument("--mutation", help="take a mechanism out of the package first; see mutants")
    parser.add_argument("--seed", type=int, default=0, help="number of the first round")
    parser.add_argument("--stop", action="store_true", help="end with the first round that is wrong")
    options = parser.parse_args(argv)
    with database():
        import logging

        logging.disable(logging.CRITICAL)  # what fails is counted
        outcome = run(options)
    print(options.mutation or "as it is", outcome, flush=True)  # noqa: T201
    for name, count in sorted(outcome.counts.items()):
        print(f"    {name}: {count}", flush=True)  # noqa: T201
    return bool(outcome.faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
