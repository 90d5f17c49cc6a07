"""A backfill, its chunks, and the queries for them.

Rows are in the database of the runs, times are those of its clock, and keys of the host are text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import connections, models, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from backfill import states
from backfill.states import BackfillStatus, ChunkStatus, Kind
from workflows_tasks import history
from workflows_tasks.history import Range


class Stateful(models.Model):
    """A row whose status changes only as ``states`` allows."""

    edges: ClassVar[tuple[states.Edge, ...]]
    status: Any

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the row. Raises ``TransitionRefused`` if its status may not change like this."""
        was = getattr(self, "_status_was", None)
        if was is not None and was != self.status:
            states.check(self.edges, was, self.status)
        super().save(*args, **kwargs)
        self._status_was = self.status

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Any:
        row = super().from_db(*args, **kwargs)
        row._status_was = row.__dict__.get("status")
        return row


class Backfill(Stateful):
    """One backfill, of all workspaces or of a range of them."""

    objects: ClassVar[models.Manager[Backfill]] = models.Manager()

    edges = states.BACKFILL

    status = models.CharField(max_length=10, default=BackfillStatus.ENQUEUED)
    actor = models.CharField(max_length=200)  # who started it
    first_workspace = models.TextField(null=True)  # noqa: DJ001
    """Key of the first workspace; null is from the beginning."""
    last_workspace = models.TextField(null=True)  # noqa: DJ001  # key of the last workspace; null is to the end
    chunk_size = models.PositiveIntegerField()  # runs that a chunk should have
    concurrency = models.PositiveIntegerField()  # chunks to work on at the same time
    waiting = models.TextField(default="")  # why it waits; empty if it does not
    error = models.TextField(default="")  # why it failed, or paused itself
    created_at = models.DateTimeField(auto_now_add=True)
    planned_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    ticked_at = models.DateTimeField(null=True)  # when a tick last looked after it

    class Meta:
        ordering = ["-id"]
        # Every tick asks for what is open, and nearly all have ended.
        indexes = [
            models.Index(fields=["id"], name="backfill_not_ended", condition=Q(status__in=sorted(states.NOT_ENDED)))
        ]

    def __str__(self) -> str:
        return f"backfill {self.pk} ({self.status})"

    @property
    def has_ended(self) -> bool:
        return self.status not in states.NOT_ENDED

    @property
    def is_of_everything(self) -> bool:
        return self.first_workspace is None and self.last_workspace is None


NOT_FILLED: Final = (ChunkStatus.FAILED, ChunkStatus.PENDING, ChunkStatus.RUNNING)
"""Statuses of a chunk whose runs are not all filled. An open chunk has one of them."""


class Chunk(Stateful):
    """A range of (workspace, run). One worker at a time fills or verifies it."""

    objects: ClassVar[models.Manager[Chunk]] = models.Manager()

    edges = states.CHUNK

    backfill = models.ForeignKey(Backfill, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    kind = models.CharField(max_length=6)
    status = models.CharField(max_length=7, default=ChunkStatus.PENDING)
    is_open = models.BooleanField(default=False)
    """It may have written rows that nobody has looked over yet. A difference there is no drift."""
    first_workspace = models.TextField()
    after_run = models.TextField(null=True)  # noqa: DJ001
    """Past this run of the first workspace; null is from its first."""
    last_workspace = models.TextField()
    last_run = models.TextField(null=True)  # noqa: DJ001  # up to this run of the last workspace; null is to its last
    planned = models.PositiveBigIntegerField()  # runs when it was planned
    passed = models.PositiveBigIntegerField(default=0)  # those of them that are done
    rows = models.PositiveBigIntegerField(default=0)  # rows that it wrote
    drift = models.PositiveIntegerField(default=0)  # differences found and repaired
    steps = models.JSONField()  # what is left: [first workspace, after run, last workspace, last run, runs]
    token = models.CharField(max_length=32, default="")  # the lease: nothing is written without it
    worker = models.CharField(max_length=200, default="")
    lease_until = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)  # in a row, without a commit in between
    retry_at = models.DateTimeField(null=True)  # nobody claims it earlier
    error = models.TextField(default="")
    refused = models.JSONField(default=list)  # [step, keys of its runs, error] of what the database refused
    seconds = models.FloatField(default=0.0)  # that its transactions took

    class Meta:
        indexes = [
            models.Index(fields=["backfill", "kind", "status"], name="backfill_chunk_claim"),
            # A comparison asks for these at each difference, and nearly all chunks are filled.
            models.Index(
                fields=["backfill"],
                name="backfill_chunk_not_filled",
                condition=Q(kind=Kind.FILL, status__in=NOT_FILLED),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk} of {self.backfill_id}: {self.extent} ({self.status})"

    @property
    def range(self) -> Range:
        return Range(self.first_workspace, self.last_workspace, after_run=self.after_run, last_run=self.last_run)

    @property
    def extent(self) -> str:
        """Its range, for people."""
        start = "" if self.after_run is None else f" past run {self.after_run}"
        end = "" if self.last_run is None else f" up to run {self.last_run}"
        if self.first_workspace == self.last_workspace:
            return f"workspace {self.first_workspace}{start}{end}"
        return f"workspaces {self.first_workspace}{start} to {self.last_workspace}{end}"

    @property
    def refused_runs(self) -> list[str]:
        return [run for _, runs, _ in self.refused for run in runs]

    def as_json(self) -> dict[str, Any]:
        copied = ("kind", "extent", "status", "passed", "planned", "worker", "refused_runs", "error")
        return {"chunk": self.pk, **{name: getattr(self, name) for name in copied}}


KIND: Final[Mapping[str, str]] = {
    BackfillStatus.RUNNING: Kind.FILL,
    BackfillStatus.VERIFYING: Kind.VERIFY,
    BackfillStatus.CANCELLING: Kind.FILL,
}
"""The kind of chunks to work on, by the status of the backfill."""


def store(row: Stateful, **fields: Any) -> None:
    """Set some fields of a row, and save just those."""
    for name, value in fields.items():
        setattr(row, name, value)
    row.save(update_fields=list(fields))


def backfills() -> QuerySet[Backfill]:
    every: QuerySet[Backfill] = Backfill.objects.using(history.database())
    return every


def chunks(backfill: Backfill | None = None) -> QuerySet[Chunk]:
    every: QuerySet[Chunk] = Chunk.objects.using(history.database())
    return every if backfill is None else every.filter(backfill=backfill)


@contextmanager
def lock(backfill_id: int) -> Iterator[Backfill]:
    """Lock a backfill's row. Whoever changes its status or claims a chunk has this lock.

    The transaction is READ COMMITTED, unless a host asks inside one of its own: after waiting for the lock, the next
    statement must see what its holder committed.
    """
    connection = connections[history.database()]
    with transaction.atomic(using=connection.alias):
        if not connection.savepoint_ids:
            history.execute(history.Sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))
        yield backfills().select_for_update().get(pk=backfill_id)


def database_time() -> datetime:
    """Read the server's clock, which all leases go by."""
    ((now,),) = history.rows(history.Sql("SELECT clock_timestamp()"))
    return now  # type: ignore[no-any-return]


def current() -> Backfill | None:
    """The backfill whose turn it is: the oldest that is open."""
    oldest: Backfill | None = backfills().filter(status__in=sorted(states.NOT_ENDED)).order_by("id").first()
    return oldest


def active(backfill: Backfill) -> QuerySet[Chunk]:
    """Chunks that somebody works on."""
    leased: QuerySet[Chunk] = chunks(backfill).filter(status=ChunkStatus.RUNNING, lease_until__gt=Now())
    return leased


def claimable(backfill: Backfill) -> QuerySet[Chunk]:
    """Chunks of the present phase that a worker may take now: those that wait, and those whose lease has expired. While
    the backfill is being cancelled, only open ones count."""
    free = Q(status=ChunkStatus.PENDING) & (Q(retry_at=None) | Q(retry_at__lte=Now()))
    expired = Q(status=ChunkStatus.RUNNING, lease_until__lte=Now())
    open_only = {"is_open": True} if backfill.status == BackfillStatus.CANCELLING else {}
    unleased: QuerySet[Chunk] = chunks(backfill).filter(free | expired, kind=KIND.get(backfill.status, ""), **open_only)
    return unleased
