"""Reading and locking a backfill's rows: always in the database of the runs, always by its clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from backfill import states
from backfill.models import Chunk, Run
from backfill.states import ChunkStatus, Kind, RunStatus
from workflows_tasks import truth
from workflows_tasks.host import host

KIND: Final[Mapping[str, str]] = {RunStatus.RUNNING: Kind.FILL, RunStatus.VERIFYING: Kind.VERIFY}
"""What is worked on, by the status of the run."""


def runs() -> QuerySet[Run]:
    found: QuerySet[Run] = Run.objects.using(host().database)
    return found


def chunks(run: Run | None = None) -> QuerySet[Chunk]:
    found: QuerySet[Chunk] = Chunk.objects.using(host().database)
    return found if run is None else found.filter(run=run)


@contextmanager
def locked(run_id: int) -> Iterator[Run]:
    """The run, with its row locked: whoever changes its status or hands out its chunks does so one at a time.

    Raises:
        Run.DoesNotExist: there is none.
    """
    with transaction.atomic(using=host().database):
        yield runs().select_for_update().get(pk=run_id)


def database_time() -> datetime:
    """The server's clock, by which all leases are kept."""
    ((now,),) = truth.rows(("SELECT clock_timestamp()", []))
    return now  # type: ignore[no-any-return]


def current() -> Run | None:
    """The open run whose turn it is: the oldest."""
    oldest: Run | None = runs().filter(status__in=sorted(states.OPEN)).order_by("id").first()
    return oldest


def active(run: Run) -> QuerySet[Chunk]:
    """Chunks that somebody works on."""
    leased: QuerySet[Chunk] = chunks(run).filter(status=ChunkStatus.RUNNING, lease_until__gt=Now())
    return leased


def claimable(run: Run) -> QuerySet[Chunk]:
    """Chunks that nobody works on: pending ones, and those whose worker is gone. None unless the run is working."""
    kind = KIND.get(run.status, "")
    free = Q(status=ChunkStatus.PENDING) & (Q(retry_at=None) | Q(retry_at__lte=Now()))
    left = Q(status=ChunkStatus.RUNNING, lease_until__lte=Now())
    found: QuerySet[Chunk] = chunks(run).filter(free | left, kind=kind)
    return found
