"""From "these runs changed" to their ids in the inbox: once per transaction, after its commit, whatever happens."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import Model, QuerySet

from workflows_tasks import conf, dispatch, events, inbox, tally
from workflows_tasks.breaker import Breaker
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.host import host
from workflows_tasks.ids import BAD_TEXT, ROWS, Scope, encode, storable

CHUNK = 1_000
"""Runs that ``announce`` looks up at a time."""

KEPT = 10_000
"""Most ids a process keeps while Redis does not answer; more are left to the sweep, and counted."""

KEPT_AT_ONCE = 100
"""How many of them follow at a time: hardly more to wait for than a save's own."""

_breaker = Breaker("inbox")
_kept: dict[str, int] = {}


def announce(runs: QuerySet[Any] | Iterable[Any], *, using: str | None = None) -> int:
    """Tell the pipeline that runs changed, after a write that sends no signal (``update``, ``bulk_create``, raw SQL).

    Inside a transaction they are announced when it commits, otherwise at once. Announcing too much is harmless: a
    flush reads the truth and writes only what differs. At most ``INBOX_LIMIT`` ids wait in a shard: after a write to
    more runs than that, ``manage.py recent_workflows verify --repair`` is the better way.

    Args:
        runs: a queryset of the run model, or run instances, or primary keys. After a write that took rows *out* of
            a queryset, pass the keys it had before.
        using: alias of the database the runs were written to; the one Django writes them to by default.

    Returns:
        How many runs were announced.

    Raises:
        InvalidArgument: something among ``runs`` is no run and no run's key; nothing was announced.
    """
    placed = dict(_placed(runs, using or host().database))
    _on_commit(placed, using or host().database)
    return len(placed)


def announce_or_report(runs: QuerySet[Any] | Iterable[Any], *, using: str) -> None:
    """``announce`` for writes that are not ours: they must not fail because of this table."""
    try:
        with unharmed(using):
            announce(runs, using=using)
    except Exception as error:
        report(error)


def report(error: Exception) -> None:
    """A write that is not ours goes on, although it could not be told what it changed."""
    events.announcement_failed(error)
    if _breaker.is_open:
        tally.add("save_failures")
    else:
        dispatch.count_failure()


def unharmed(using: str) -> AbstractContextManager[None]:
    """Around a query in the host's transaction: if it fails, as for want of a privilege, the transaction does not."""
    within = transaction.get_connection(using).in_atomic_block
    return transaction.atomic(using=using) if within else nullcontext()


def gather(run: Model, *, using: str) -> None:
    """Announce one run when the current transaction commits; no SQL, and no deferred column is loaded."""
    workspace = run.__dict__.get(host().workspace.attname)
    run_id = encode(run.pk)
    _on_commit({run_id: inbox.shard_of(run_id if workspace is None else workspace)}, using)


def gather_scope(scope: Scope, *, using: str) -> None:
    """Announce what a scope stands for when the current transaction commits.

    Rows that are not true can be found by anybody. Runs must be raised under the lock of their shard, because whether
    they are newer than a row is not sure while a flush may be lowering it: each shard gets the scope.
    """
    one = scope.part == ROWS or scope.lookup == host().workspace.name
    shards = [inbox.shard_of(scope.key)] if one else range(conf.settings().shards)
    _on_commit({scope.text(shard): shard for shard in shards}, using)


def _placed(runs: QuerySet[Any] | Iterable[Any], using: str) -> Iterator[tuple[str, int]]:
    """Each run's id and shard. A run that is not there, or has no workspace, gets a shard by its own id: the flush
    hands it on to where its rows are."""
    run_model, workspace = host().run, host().workspace.attname
    if isinstance(runs, QuerySet):
        if not issubclass(runs.model, run_model):
            raise InvalidArgument(
                f"announce() got a queryset of {runs.model._meta.label}; it takes runs, {run_model._meta.label}."
            )
        # From where they were written, unless the host says otherwise: a replica may not have them yet.
        runs = runs if runs._db else runs.using(using)  # type: ignore[attr-defined]
        unordered = runs if runs.query.is_sliced or runs.query.combinator else runs.order_by()
        found: Iterable[tuple[Any, Any]] = unordered.values_list("pk", workspace).iterator(chunk_size=CHUNK)
        yield from (_place(pk, value) for pk, value in found)
        return
    if isinstance(runs, (str, bytes, Model)) or not isinstance(runs, Iterable):
        raise InvalidArgument(f"announce() got {runs!r}; it takes a queryset or an iterable: announce([run]).")
    keys = [_key(run) for run in runs]
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        rows = run_model._base_manager.using(using).filter(pk__in=chunk).values_list("pk", workspace)
        workspaces = dict(rows)
        yield from (_place(key, workspaces.get(key)) for key in chunk)


def _place(pk: Any, workspace: Any) -> tuple[str, int]:
    run_id = encode(pk)
    return run_id, inbox.shard_of(run_id if workspace is None else workspace)


def _key(run: Any) -> Any:
    if isinstance(run, Model):
        if not isinstance(run, host().run):
            raise InvalidArgument(f"announce() got {run!r}; it takes runs, {host().run._meta.label}.")
        run = run.pk
    try:
        key = host().run_key.to_python(storable(run) if isinstance(run, str) else run)
        host().run_key.run_validators(key)
    except BAD_TEXT as error:
        raise InvalidArgument(f"announce() got {run!r}, no primary key of {host().run._meta.label}.") from error
    if key is None:
        raise InvalidArgument("announce() got a run that was never saved; save it first.")
    return key


class _Batch:
    """What one transaction announces. Its hook runs after the commit, or never if the transaction rolls back."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}

    def __call__(self) -> None:
        _deliver(self.runs)


def _on_commit(runs: dict[str, int], using: str) -> None:
    connection = transaction.get_connection(using)
    if not connection.in_atomic_block and connection.get_autocommit():
        _deliver(runs)
        return
    for _, hook, _ in connection.run_on_commit:
        if isinstance(hook, _Batch):
            hook.runs.update(runs)
            return
    batch = _Batch()
    batch.runs.update(runs)
    # Not transaction.on_commit(): that ties the hook to the current savepoint, so a run saved after the savepoint's
    # end would need another hook and another round trip. With no savepoint named it lives as long as the transaction.
    # A run whose savepoint was rolled back is announced in vain, which costs a flush one look.
    connection.run_on_commit.append((set(), batch, True))


def _deliver(runs: dict[str, int]) -> None:
    """Put ids in the inbox and send the flush messages that are due. Never raises, never waits long: this is a save.

    While Redis does not answer, some ids are kept in this process and follow when it answers again.
    """
    if not runs:
        return
    if _breaker.is_open:
        _keep(runs)
        return
    is_over = _try_to_deliver(runs) and _deliver_kept()
    if is_over and _breaker.succeed():
        events.inbox_recovered()


def _try_to_deliver(runs: dict[str, int]) -> bool:
    """True if ids are in the inbox now; if not they are kept, and Redis is left alone for a while."""
    try:
        dispatch.deliver(runs)
    except Exception as error:  # also what a host's own client factory raises
        _keep(runs)
        tally.add("save_failures")
        pause_s = conf.settings().breaker_s
        if _breaker.fail(pause_s):
            events.inbox_failed(error, pause_s=pause_s)
        return False
    return True


def _deliver_kept() -> bool:
    """What was kept, now that Redis has just answered; True if nothing is left.

    Not together with the save's own ids, which find out whether it answers: more would have to be waited for longer.
    A batch that fails goes behind the others. This save gives it ``SAVE_TIMEOUT_S``; the next ones go on.
    """
    until_s = time.monotonic() + conf.settings().save_timeout_s
    while _kept:
        if time.monotonic() >= until_s or not _try_to_deliver(_taken()):
            return False
    return True


def _taken() -> dict[str, int]:
    """The first of what was kept, now the caller's. Each is popped by itself: other threads take and keep meanwhile."""
    taken: dict[str, int] = {}
    for run in list(islice(_kept, KEPT_AT_ONCE)):
        with suppress(KeyError):
            taken[run] = _kept.pop(run)
    return taken


def _keep(runs: dict[str, int]) -> None:
    for run, shard in runs.items():
        if run in _kept or len(_kept) < KEPT:
            _kept[run] = shard
        else:
            tally.add("undelivered")
