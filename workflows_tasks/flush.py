"""One flush: claim what waits, write it, hand on what belongs elsewhere, and only then acknowledge.

A crash anywhere before the acknowledgement leaves the claim, and whoever claims those ids again writes the same rows.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from django.db import DatabaseError, InterfaceError

from workflows_tasks import conf, dispatch, events, inbox, projection, transactions
from workflows_tasks.errors import ClaimLost, InboxUnavailable
from workflows_tasks.ids import BAD_TEXT, Scope, decode, encode, is_scope

DB_ERRORS: Final = (DatabaseError, InterfaceError)


@dataclass(slots=True)
class Flushed:
    """What one flush did."""

    runs: int = 0
    rows: int = 0


def flush(shard: int) -> Flushed:
    """Flush all that is pending in a shard now.

    Raises:
        django.db.OperationalError, django.db.InterfaceError: the database is not there or too busy; what was not
            acknowledged was put back and a flush message sent.
        InboxUnavailable: Redis is not there; an open claim expires and is rescued.
    """
    done = Flushed()
    claim = inbox.claim(shard)
    if claim is None:
        return done
    try:
        waiting = set(claim.announced_ms)
        for batch in _batches(claim.announced_ms, conf.settings().flush_batch):
            _flush_batch(claim, batch, waiting, done)
    except DB_ERRORS as error:
        events.flush_failed(error, shard=shard, runs=len(claim.announced_ms) - done.runs)
        inbox.acknowledge(claim, [], stats={"failures": 1}, aside={})
        inbox.release(shard, [claim.token])
        reschedule(shard, delay_s=conf.settings().breaker_s)
        raise
    except ClaimLost as error:
        events.claim_lost(error)
    return done


def rescue(shard: int) -> int:
    """Put expired claims back and see that a shard with pending ids has a flush message. Returns claims put back."""
    released = inbox.release(shard, inbox.expired_claims(shard))
    if released:
        events.rescued(shard=shard, released=released)
    if inbox.has_pending(shard):
        reschedule(shard)
    return released


def reschedule(shard: int, *, delay_s: float | None = None) -> None:
    """Send a flush message unless one is under way."""
    try:
        free = inbox.mark(shard)
    except InboxUnavailable:  # as where Redis has no memory for a marker; a message too many finds nothing to do
        free = True
    if free:
        dispatch.send_flush(shard, delay_s=delay_s)


def _flush_batch(claim: inbox.Claim, batch: Sequence[str], waiting: set[str], done: Flushed) -> None:
    """Write a part of a claim and acknowledge it. One bad run must not keep the others waiting: where the database
    refuses a batch it is halved, each half acknowledged by itself, until the refused run is alone and set aside.

    ``waiting`` has the claim's ids that are not acknowledged yet. A run that a row was set back to may be one of them:
    it must stay in the claim for a batch of its own.
    """
    started_s = time.monotonic()
    meant, aside = _decoded(batch)
    named: list[str] = []
    try:
        written = _written(claim, meant, named)
    except DB_ERRORS as error:
        if not transactions.is_refusal(error) or time.monotonic() - claim.taken_at_s > _deadline_s():
            raise
        if len(batch) > 1:
            for half in _halves(list(batch)):
                _flush_batch(claim, half, waiting, done)
            return
        aside, meant, written = dict.fromkeys(batch, _reason(error)), {}, projection.Written()
    seconds, visible_ms = time.monotonic() - started_s, claim.now_ms
    elsewhere = {encode(run): of for run, of in written.elsewhere.items()}
    if elsewhere:  # before the acknowledgement: a crash in between repeats, it does not lose
        dispatch.deliver(elsewhere, patient=True)
    for run, why in aside.items():
        events.run_set_aside(run, why, shard=claim.shard)
    stats = events.flushed(
        shard=claim.shard,
        runs=len(batch),
        counts=written.counts | {"handed_on": len(elsewhere), "set_aside": len(aside)},
        lags_s=[(visible_ms - claim.announced_ms[run]) / 1000 for run in meant],
        seconds=seconds,
    )
    waiting.difference_update(batch)
    inbox.acknowledge(claim, [*batch, *(run for run in named if run not in waiting)], stats=stats, aside=aside)
    done.runs += len(batch)
    done.rows += written.rows


def _written(claim: inbox.Claim, meant: Mapping[str, Any], named: list[str]) -> projection.Written:
    """Write what a batch means. Appends to ``named`` the runs that the claim is extended by."""

    def about_to_name(runs: list[Any]) -> None:
        named.extend(map(encode, runs))
        if not inbox.extend(claim, named):
            raise ClaimLost(f"a claim of shard {claim.shard} outlived its lease; its ids are flushed by another")

    runs = [each for each in meant.values() if not isinstance(each, Scope)]
    scopes = [each for each in meant.values() if isinstance(each, Scope)]
    return projection.write(claim.shard, runs, scopes, about_to_name=about_to_name)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".strip()


def _deadline_s() -> float:
    """Seconds into a flush after which it looks for bad runs no further: the rest goes back, and fewer come again."""
    return conf.settings().flush_time_limit_s / 2


def _halves(ids: list[str]) -> tuple[list[str], list[str]]:
    random.shuffle(ids)  # so that a flush that runs out of time has, as likely as not, written the good half
    return ids[: len(ids) // 2], ids[len(ids) // 2 :]


def _decoded(ids: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Ids as primary keys and scopes; and those that are neither, with the reason: what is in Redis is not trusted."""
    meant: dict[str, Any] = {}
    aside: dict[str, str] = {}
    for text in ids:
        try:
            meant[text] = Scope.from_text(text) if is_scope(text) else decode(text)
        except BAD_TEXT as error:
            aside[text] = f"no primary key of a run: {error}"
    return meant, aside


def _batches(ids: Mapping[str, float], size: int) -> Iterator[list[str]]:
    remaining = iter(ids)
    while batch := list(islice(remaining, size)):
        yield batch
