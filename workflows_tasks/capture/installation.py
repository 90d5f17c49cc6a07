"""Installing capture, and turning it off.

``migrate`` installs it. Each statement that locks a host's table has a transaction of its own, and waits for a bounded
time. CREATE TRIGGER waits for every open writer, and everybody else queues behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db import OperationalError, transaction

from workflows_tasks import conf
from workflows_tasks.capture import catalogue, record, triggers, watch
from workflows_tasks.capture.tables import Table, tables
from workflows_tasks.capture.triggers import Names
from workflows_tasks.capture.watch import Problem
from workflows_tasks.host import host
from workflows_tasks.models import Installation, Shard
from workflows_tasks.monitoring import telemetry
from workflows_tasks.sql import Sql, execute, quoted

LOCK_CLASS: Final = 0x52574654
"""First key of the advisory lock that whoever installs holds: two at once would update the same catalogue rows."""

NOWAIT_S: Final = 3.0
"""Seconds of attempts that make nobody wait, before the first that does."""

WAITS_MS: Final = (100, 1_000, 2_500)
"""Milliseconds that each further attempt waits for a table's lock. Writers wait behind it."""

_of_pages: Callable[[str], tuple[str, str, str]]


def function_of_pages(create: Callable[[str], tuple[str, str, str]]) -> None:
    """Register the function of fresh pages. It is installed with those of capture, though it captures nothing.

    Args:
        create: given the quoted schema, the function's name, body, and the statement that makes it.
    """
    global _of_pages  # set once, when the app is ready
    _of_pages = create


def statements() -> list[str]:
    """All SQL that ``install`` would execute on an empty database, for whoever wants to read or run it by hand."""
    where = catalogue.names_or_raise()
    script = triggers.create_log(where)
    for table in tables(host()):
        script += [triggers.create_function(name, body) for name, body in triggers.functions(table, where).items()]
        script += triggers.create_triggers(quoted(table.name), triggers.functions(table, where))
    return [*script, _of_pages(where.schema)[-1]]


def install(tell: Callable[[str], None] = lambda _: None) -> list[Problem]:
    """Make what is missing or outdated; returns what could not be made. Safe to repeat, and beside another.

    Args:
        tell: called with a sentence for each step, and for whom it waits.

    Raises:
        NotInstalled: our own tables are not migrated yet.
    """
    where = catalogue.names_or_raise()
    row, is_empty = record.installation(), not record.has_rows()
    wrong = {*row.problems, *map(str, watch.problems())}
    changed = _install_functions(where, tell)
    unbound = [table for table in tables(host()) if _unbound(table)]
    failed = [problem for table in unbound if (problem := _bind(table, where, tell))]
    with transaction.atomic(using=host().database):
        watch.note_watched()
        if row.lacks_history is None and is_empty and not failed:
            record.note_history()
        left = [str(problem) for problem in watch.problems()]
        if changed or wrong.difference(left):
            record.request_rescan("capture was installed, changed or mended")
        record.only_row().update(problems=left, fingerprint=record.fingerprint())
    return failed


def turn_off() -> None:
    """Capture nothing from now on. Only functions are replaced, so no table of the host's is locked."""
    where = catalogue.names_or_raise()
    with _exclusively():
        for table in tables(host()):
            for name in catalogue.functions(table, where):
                _run(triggers.create_function(name, triggers.OFF))
    telemetry.capture_turned_off()


def remove(tell: Callable[[str], None] = lambda _: None) -> list[Problem]:
    """Drop triggers and functions; returns the tables that could not be locked. The log stays."""
    where = catalogue.names_or_raise()
    turn_off()
    failed = []
    for table in tables(host()):
        functions = catalogue.functions(table, where)
        drops = [f'DROP TRIGGER "{name}" ON {relation}' for name, relation in catalogue.calls(functions)]
        problem = _patiently(table, "ACCESS EXCLUSIVE", drops, tell) if drops else None
        if problem:
            failed.append(problem)
            continue
        for name in functions:
            _run(f"DROP FUNCTION IF EXISTS {name}()")
    _run(f"DROP FUNCTION IF EXISTS {_of_pages(where.schema)[0]}")
    return failed


def problems_of_pages() -> list[Problem]:
    """What is wrong with fresh pages. It is apart from ``problems``, because no write is missed meanwhile."""
    where = catalogue.names()
    if where is None or catalogue.is_absent(where):
        return []
    name, body, _ = _of_pages(where.schema)
    what = f"is missing or outdated: fresh pages fail, or show what counted before; run: {triggers.COMMAND}"
    return [Problem(name, what)] if catalogue.body(name) != body else []


def install_after_migrate(*, using: str, verbosity: int = 1, **_: Any) -> None:
    """Receiver of ``post_migrate``. Whatever goes wrong is told and logged, and ``migrate`` goes on."""
    if using != host().database or catalogue.names() is None:
        return
    tell = print if verbosity else (lambda _: None)
    try:
        failed = install(lambda line: tell(f"  Recent workflows: {line}"))
    except Exception as error:  # of a filter that does not compile, too: a migrate from code runs no checks
        telemetry.capture_not_installed(str(error).strip())
        tell(f"  Recent workflows: nothing is captured ({error}). Run later: {triggers.COMMAND}")
        return
    for problem in failed:
        telemetry.capture_not_installed(str(problem))
        tell(f"  Recent workflows: nothing is captured of {problem}")


def _install_functions(where: Names, tell: Callable[[str], None]) -> bool:
    """Install the log, the functions and the number of shards; True if what was there before may have missed runs."""
    changed = False
    with _exclusively():
        for statement in triggers.create_log(where) if catalogue.is_log_typed(where) is None else ():
            _run(statement)
        _set_shards()
        for table in tables(host()):
            for name, body in catalogue.functions(table, where).items():
                present = catalogue.body(name)
                if present == body:
                    continue
                changed = changed or present is not None
                _run(triggers.create_function(name, body))
                _run(f"REVOKE ALL ON FUNCTION {name}() FROM PUBLIC")
                tell(f"function {name} is {'replaced' if present else 'created'}")
        name, body, statement = _of_pages(where.schema)
        if catalogue.body(name) != body:
            _run(statement)
            tell(f"function {name} is created, for fresh pages")
        for name in catalogue.left_over(where):
            _run(triggers.create_function(name, triggers.OFF))
            tell(f"function {name} is turned off: its table is not read any more")
    row = record.installation()
    return changed or record.fingerprint_changed(row)


def _set_shards() -> None:
    """Make this process's number of shards everybody's. All shards are locked, so no flush is under way."""
    database, wanted = host().database, conf.settings().shards
    row = record.installation()
    if row.shards != wanted:
        list(Shard.objects.using(database).select_for_update().order_by("number").values_list("pk"))
        Installation.objects.using(database).filter(pk=row.pk).update(shards=wanted)
    Shard.objects.using(database).bulk_create([Shard(number=n) for n in range(wanted)], ignore_conflicts=True)


def _unbound(table: Table) -> bool:
    seen = catalogue.find(table.name)
    if seen is None:
        return False
    return bool(seen.bare) or not {triggers.ROW_TRIGGER, triggers.TRUNCATE_TRIGGER} <= set(seen.triggers)


def _bind(table: Table, where: Names, tell: Callable[[str], None]) -> Problem | None:
    seen = catalogue.find(table.name)
    assert seen is not None
    functions = catalogue.functions(table, where)
    row, truncate = triggers.create_triggers(seen.name, functions)
    wanted = [row] if triggers.ROW_TRIGGER not in seen.triggers else []
    wanted += [truncate] if triggers.TRUNCATE_TRIGGER not in seen.triggers else []
    wanted += [triggers.create_triggers(partition, functions)[1] for partition in seen.bare]
    return _patiently(table, "SHARE ROW EXCLUSIVE", wanted, tell)


def _patiently(table: Table, mode: str, wanted: list[str], tell: Callable[[str], None]) -> Problem | None:
    """Execute statements under a table's lock, in a transaction of their own; returns why there was no lock."""
    seen = catalogue.find(table.name)
    assert seen is not None
    until_s = time.monotonic() + NOWAIT_S
    while time.monotonic() < until_s:
        if _once(f"LOCK TABLE {seen.name} IN {mode} MODE NOWAIT", *wanted):
            tell(f"{table.name}: done")
            return None
        time.sleep(0.005)  # not a wait for somebody: the next attempt at a moment without a writer
    for wait_ms in WAITS_MS:
        tell(f"{table.name}: waits up to {wait_ms / 1000:g} s for {_holders(seen.name)}")
        locking = [f"SET LOCAL lock_timeout = {wait_ms}", f"LOCK TABLE {seen.name} IN {mode} MODE"]
        if _once(*locking, *wanted):
            tell(f"{table.name}: done")
            return None
    return Problem(
        table.name, f"its lock was not to be had; it was held by {_holders(seen.name)}. Run later: {triggers.COMMAND}"
    )


def _once(*statements: str) -> bool:
    try:
        with transaction.atomic(using=host().database):
            for statement in statements:
                _run(statement)
    except OperationalError:  # the lock was not available
        return False
    return True


def _holders(table: str) -> str:
    return catalogue.sessions_in(table) or "sessions that have ended meanwhile"


@contextmanager
def _exclusively() -> Iterator[None]:
    """A transaction that nobody else installs in."""
    with transaction.atomic(using=host().database):
        _run(f"SELECT pg_advisory_xact_lock({LOCK_CLASS}, 0)")
        yield


def _run(statement: str) -> None:
    execute(Sql(statement))
