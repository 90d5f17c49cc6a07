"""A backfill, its chunks, and who did what to it when.

Keys of the host's workspaces and runs are kept as text, whatever their type: ``spans`` knows how.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models

from backfill import states
from backfill.states import ChunkStatus, Kind, RunStatus


class Stateful(models.Model):
    """A row whose status changes only as ``states`` allows: any other change is refused when it is saved."""

    edges: ClassVar[tuple[states.Edge, ...]]
    status: Any

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save.

        Raises:
            TransitionRefused: the status may not change like this.
        """
        was = getattr(self, "_status_was", None)
        if was is not None and was != self.status:
            states.check(self.edges, was, self.status)
        super().save(*args, **kwargs)
        self._status_was = self.status

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Any:
        loaded = super().from_db(*args, **kwargs)
        loaded._status_was = loaded.__dict__.get("status")
        return loaded


class Run(Stateful):
    """One backfill: of all workspaces or of a range of them."""

    objects: ClassVar[models.Manager[Run]] = models.Manager()

    edges = states.RUN

    status = models.CharField(max_length=10, choices=RunStatus.choices, default=RunStatus.ENQUEUED)
    actor = models.CharField(max_length=200, help_text="Who started it.")
    first_workspace = models.TextField(null=True, help_text="Key of the first workspace; null is from the beginning.")  # noqa: DJ001
    last_workspace = models.TextField(null=True, help_text="Key of the last workspace; null is to the end.")  # noqa: DJ001
    since = models.DateTimeField(null=True, help_text="Only runs used then or later; null is all of history.")
    chunk_size = models.PositiveIntegerField(help_text="Runs that a chunk should have.")
    parallel = models.PositiveIntegerField(help_text="Chunks that are to be worked on at the same time.")
    width = models.PositiveIntegerField(
        help_text="Chunks that may be worked on now: fewer, where live traffic needs it."
    )
    batch = models.PositiveIntegerField(default=0, help_text="Runs that a transaction had lately; 0 is not known yet.")
    waiting = models.TextField(default="", help_text="Why it waits or is slowed down; empty if it is not.")
    error = models.TextField(default="", help_text="Why it failed or was paused by itself.")
    outcomes = models.CharField(max_length=20, default="", help_text="The last chunks, newest last: . or F.")
    samples = models.JSONField(default=list, help_text="[seconds, runs done] of the last ticks, for rate and ETA.")
    created_at = models.DateTimeField(auto_now_add=True)
    planned_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    ticked_at = models.DateTimeField(null=True, help_text="When the orchestrator last looked.")
    sent_at = models.DateTimeField(null=True, help_text="When a worker was last asked for.")

    class Meta:
        verbose_name = "backfill"
        ordering = ["-id"]
        # Every tick asks for what is open; nearly all there are have ended.
        indexes = [
            models.Index(fields=["id"], name="backfill_open", condition=models.Q(status__in=sorted(states.OPEN)))
        ]

    def __str__(self) -> str:
        return f"backfill {self.pk} ({self.status})"

    @property
    def is_open(self) -> bool:
        return self.status in states.OPEN


class Chunk(Stateful):
    """A half-open span of (workspace, run), filled or verified by one worker at a time."""

    objects: ClassVar[models.Manager[Chunk]] = models.Manager()

    edges = states.CHUNK

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="chunks")
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="children")
    kind = models.CharField(max_length=6, choices=Kind.choices)
    order = models.PositiveIntegerField(help_text="Order in which they are claimed: neighbours far from each other.")
    status = models.CharField(max_length=7, choices=ChunkStatus.choices, default=ChunkStatus.PENDING)
    first_workspace = models.TextField()
    after_run = models.TextField(null=True, help_text="Past this run of the first workspace; null is from its first.")  # noqa: DJ001
    last_workspace = models.TextField()
    last_run = models.TextField(null=True, help_text="Up to this run of the last workspace; null is to its last.")  # noqa: DJ001
    planned = models.PositiveBigIntegerField(help_text="Runs that it had when it was planned.")
    passed = models.PositiveBigIntegerField(
        default=0, help_text="Those of them that are done: never more, and all at its end."
    )
    rows = models.PositiveBigIntegerField(default=0, help_text="Rows of the table that it wrote.")
    drift = models.PositiveIntegerField(default=0, help_text="Differences that it found and announced.")
    steps = models.JSONField(help_text="What is left: [first workspace, after run, last workspace, last run, runs].")
    token = models.CharField(max_length=32, default="", help_text="The lease: nothing is written without it.")
    worker = models.CharField(max_length=200, default="")
    lease_until = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0, help_text="Failures in a row, without a commit in between.")
    retry_at = models.DateTimeField(null=True, help_text="Not claimed before.")
    error = models.TextField(default="")
    failed_runs = models.JSONField(default=list, help_text="Keys of the runs that could not be filled.")
    seconds = models.FloatField(default=0.0, help_text="Time that its transactions took.")
    done_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["run", "kind", "status", "order"], name="backfill_chunk_claim")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk} of {self.run_id}: {self.extent} ({self.status})"

    @property
    def extent(self) -> str:
        """Its span, for people."""
        first = self.first_workspace + (f" past run {self.after_run}" if self.after_run is not None else "")
        last = self.last_workspace + (f" up to run {self.last_run}" if self.last_run is not None else "")
        if self.first_workspace != self.last_workspace:
            return f"workspaces {first} to {last}"
        ends = [f"past run {self.after_run}"] if self.after_run is not None else []
        ends += [f"up to run {self.last_run}"] if self.last_run is not None else []
        return " ".join([f"workspace {self.first_workspace}", *ends])


class Event(models.Model):
    """Who did what to a backfill, and when. Never changed."""

    objects: ClassVar[models.Manager[Event]] = models.Manager()

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=200)
    what = models.CharField(max_length=30)
    detail = models.TextField(default="")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.what} {self.detail}".rstrip()


def saved(row: Stateful, **fields: Any) -> None:
    """Set fields of a row and save just those."""
    for name, value in fields.items():
        setattr(row, name, value)
    row.save(update_fields=list(fields))
