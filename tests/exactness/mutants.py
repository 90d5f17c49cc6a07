"""The package with one mechanism taken out, by the mutation's name: each must make tests fail.

Each mutation replaces functions of the package, or words of the statements they make; it refuses to be applied where
those words are not found, so that none becomes a no-op when the package changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from workflows_tasks import flush, inbox, models, projection, repair, signals, transactions, truth
from workflows_tasks.projection import Written
from workflows_tasks.sql import looks, writes
from workflows_tasks.sql.fragments import Statement, in_utc

CHANGED: Final = [
    flush,
    inbox,
    inbox.moves,
    models._Announcement,
    projection,
    transactions,
    repair,
    signals,
    truth,
    looks,
    writes,
]
"""Where mutations replace something."""

KEY_ORDER: Final = "ORDER BY source.workspace, source.uid, source.workflow"
ROW_ORDER: Final = "ORDER BY stored.workspace_id, stored.uid, stored.published_run_id"
AS_READ: Final = "WHERE (stored.last_used_at, stored.last_run_id) = (found.was_used_at, found.was_run)"
ONLY_UPWARDS: Final = "WHERE (excluded.last_used_at, excluded.last_run_id) > (stored.last_used_at, stored.last_run_id)"
TIE_BREAK: Final = (
    "(source.used_at, source.run) > (present.last_used_at, present.last_run_id)",
    "source.used_at > present.last_used_at",
)


def apply(name: str) -> Callable[[], None]:
    """Take the mechanism that ``name`` names out of the package; what is returned puts it back."""
    before = [(place, dict(vars(place))) for place in CHANGED]
    MUTANTS[name].apply()
    replaced = [
        (place, key, old)
        for place, was in before
        for key, old in was.items()
        if vars(place).get(key) is not old
    ]  # fmt: skip
    assert replaced, f"{name} replaces nothing"

    def undo() -> None:
        for place, key, old in replaced:
            setattr(place, key, old)

    return undo


def _reworded(function: str, old: str, new: str) -> Callable[[], None]:
    """A mutation that changes words of the SQL that a function of ``writes`` makes, or of a part of it."""

    def apply() -> None:
        real = getattr(writes, function)

        def reworded(*args: Any, **kwargs: Any) -> Any:
            made = real(*args, **kwargs)
            text = made if isinstance(made, str) else made[0]
            assert old in text, f"{function} no longer says {old!r}"
            text = text.replace(old, new)
            return text if isinstance(made, str) else (text, *made[1:])

        setattr(writes, function, reworded)

    return apply


def _no_lock() -> None:
    transactions.locked = lambda *_, **__: transactions.read_committed()  # type: ignore[assignment]


def _merged_lock() -> None:
    """Raising takes the lock in the statement that reads, whose snapshot is then older than the lock."""
    made, source = writes.raise_rows, " WHERE live.run = ANY("

    def merged(shard: int, runs: Sequence[Any]) -> Statement:
        text, params = made(shard, runs)
        for words in ("WITH announced AS MATERIALIZED (", source):
            assert text.count(words) == 1, f"raise_rows no longer says {words!r} once"
        lock = f"SELECT pg_advisory_xact_lock({transactions.LOCK_CLASS}, {shard})"
        text = text.replace("WITH announced", f"WITH locked AS MATERIALIZED ({lock}), announced")
        return text.replace(source, f" CROSS JOIN (SELECT count(*) FROM locked) AS locked {source}"), params

    def raise_unlocked(shard: int, runs: Sequence[Any], written: Written, _: projection.Remember) -> None:
        with transactions.read_committed():
            raised, elsewhere = projection.raise_rows(shard, runs)
        written.raised += raised
        written.elsewhere |= elsewhere

    writes.raise_rows = merged
    projection._raise = raise_unlocked


def _no_look() -> None:
    projection.stale_rows = lambda runs: []


def _no_verify() -> None:
    _look_first(verifies_lowered=False)


def _no_verify_after_raising() -> None:
    _look_first(verifies_lowered=True)


def _look_first(*, verifies_lowered: bool) -> None:
    """Stale rows are looked for, and set back, in the transaction that then raises; not after its commit."""
    look = projection.stale_rows

    def of_shard(shard: int, runs: Sequence[Any], written: Written) -> list[projection.StaleRow]:
        return projection._of_shard(shard, look(runs), written)

    def raise_and_lower(shard: int, runs: Sequence[Any], written: Written, _: projection.Remember) -> None:
        with transactions.locked(shard):
            stale = of_shard(shard, runs, written)
            found = projection.newest(stale) if stale else []
            if found:
                projection.lower_rows(found)
            raised, elsewhere = projection.raise_rows(shard, runs)
        written.raised += raised
        written.elsewhere |= elsewhere
        named = [each.run for each in found if each.run is not None]
        while verifies_lowered and (stale := of_shard(shard, named, written)):
            named = projection._lower(shard, stale, written, lambda _: None)

    projection._raise = raise_and_lower
    projection.stale_rows = lambda runs: []


def _no_verify_after_lowering() -> None:
    lower = projection._lower

    def lower_and_forget(*args: Any) -> list[Any]:
        lower(*args)
        return []

    projection._lower = lower_and_forget


def _no_fill_verify() -> None:
    fill = projection.fill
    projection.fill = lambda *args: (fill(*args)[0], [])


def _no_handing_on() -> None:
    write = projection.write

    def keep(*args: Any, **kwargs: Any) -> Written:
        written = write(*args, **kwargs)
        written.elsewhere.clear()
        return written

    projection.write = keep


def _no_read_committed() -> None:
    @contextmanager
    def as_the_database_likes(*settings: str) -> Iterator[None]:
        with transactions.transaction.atomic(using=transactions.host().database), transactions.cursor() as cursor:
            if settings:
                cursor.execute("; ".join(settings))
            yield

    transactions.read_committed = as_the_database_likes


def _acknowledge_first() -> None:
    flush_batch = flush._flush_batch

    def acknowledge_first(claim: inbox.Claim, batch: Sequence[str], waiting: set[str], done: flush.Flushed) -> None:
        inbox.acknowledge(claim, batch, stats={}, aside={})
        flush_batch(claim, batch, waiting, done)

    flush._flush_batch = acknowledge_first


def _plain_rename_claim() -> None:
    inbox.moves.uuid = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex="claimed"))  # type: ignore[assignment]


def _no_extending() -> None:
    inbox.extend = lambda *_: True


def _forget_later_batches() -> None:
    flush_batch = flush._flush_batch
    flush._flush_batch = lambda claim, batch, _, done: flush_batch(claim, batch, set(), done)


def _no_version_lock() -> None:
    signals._workflow_left = signals._workflow_of


def _no_horizon() -> None:
    looks.HORIZON = f"SELECT {in_utc('now()')}, {in_utc('now()')}, 1, 1"  # type: ignore[misc]


def _no_inbox_check() -> None:
    truth.inbox = SimpleNamespace(where_is=lambda _: {})  # type: ignore[assignment]


def _one_look_of_verify() -> None:
    repair._lost = truth.lost


def _forgetful_audit() -> None:
    repair._move = lambda name, position: None


def _silent_deletes() -> None:
    models._Announcement._announce = lambda *_, **__: None  # type: ignore[method-assign]


class Mutant(NamedTuple):
    """A mutation: what it takes out, in a few words, and how."""

    takes_out: str
    apply: Callable[[], None]
    is_random: bool = False
    """Whether a test may pass under it by chance."""


MUTANTS: Final[dict[str, Mutant]] = {
    "no-lock": Mutant("the shard's lock", _no_lock),
    "merged-lock": Mutant("the lock's statement: it is taken in the one that reads", _merged_lock),
    "no-look": Mutant("the look for rows whose run is gone", _no_look),
    "no-verify": Mutant("the look after the commit: it comes before", _no_verify),
    "no-verify-after-raising": Mutant("the look after the commit, for raised rows", _no_verify_after_raising),
    "no-verify-after-lowering": Mutant("the look after the commit, for rows set back", _no_verify_after_lowering),
    "no-fill-verify": Mutant("the fill's verify after its commit", _no_fill_verify),
    "no-conditional-lower": Mutant("that a row is set back only as it was read", _reworded("lower_rows", AS_READ, "")),
    "blind-upsert": Mutant("that an upsert writes only upwards", _reworded("upsert", ONLY_UPWARDS, "")),
    "no-handing-on": Mutant("the handing on of runs to other shards", _no_handing_on),
    "no-read-committed": Mutant("READ COMMITTED where the database has another default", _no_read_committed),
    "acknowledge-first": Mutant("the acknowledgement's place: it comes before the write", _acknowledge_first),
    "plain-rename-claim": Mutant("the claim's own name: all claims of a shard share one", _plain_rename_claim),
    "no-extending": Mutant("the claim's extension by the runs that rows are set back to", _no_extending),
    "forget-later-batches": Mutant("that a claim keeps what its later batches are about", _forget_later_batches),
    "no-version-lock": Mutant("the lock of a version whose workflow is read", _no_version_lock),
    "unsorted-keys": Mutant(
        "the upsert's key order: backwards by workspace, at random within",
        _reworded("upsert", KEY_ORDER, "ORDER BY source.workspace DESC, random()"),
    ),
    "keys-in-plan-order": Mutant(
        "the upsert's key order: as the plan has it", _reworded("upsert", KEY_ORDER, ""), is_random=True
    ),
    "unsorted-lowering": Mutant(
        "the key order of rows set back: backwards by workspace, at random within",
        _reworded("lower_rows", ROW_ORDER, "ORDER BY stored.workspace_id DESC, random()"),
    ),
    "no-tie-break": Mutant("the key's part in what is newer", _reworded("rising", *TIE_BREAK)),
    "no-horizon": Mutant("the watermark's waiting for open transactions", _no_horizon),
    "no-inbox-check": Mutant("the verify's asking whether a difference is on its way", _no_inbox_check),
    "one-look-of-verify": Mutant("the verify's looking again for as long as a flush may take", _one_look_of_verify),
    "forgetful-audit": Mutant("the audit's bookmark", _forgetful_audit),
    "silent-deletes": Mutant("the announcement of deletes", _silent_deletes),
}  # fmt: skip
"""Mutations by name."""
