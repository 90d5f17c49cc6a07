"""What all processes have agreed on: the one row of ``Installation``."""

from __future__ import annotations

import hashlib
import json
import socket
from typing import Any

from workflows_tasks import conf
from workflows_tasks.capture import catalogue, triggers
from workflows_tasks.errors import WrongShards
from workflows_tasks.filters import described
from workflows_tasks.host import host
from workflows_tasks.models import Installation, WorkspaceRecentWorkflow
from workflows_tasks.sql import Sql, quoted, rows


def installation() -> Installation:
    """The one row. It is made again if a host's test truncated the table.

    Raises:
        django.db.DatabaseError: the table is not there.
    """
    row: Installation
    row, _ = Installation.objects.using(host().database).get_or_create(
        pk=Installation.ONLY, defaults={"shards": conf.settings().shards, "fingerprint": fingerprint()}
    )
    return row


def check_shards(agreed: int) -> None:
    """Refuse to go on in a process that is set to another number of shards than the database.

    Raises:
        WrongShards: names this process and both numbers.
    """
    wanted = conf.settings().shards
    if wanted != agreed:
        raise WrongShards(
            f"SHARDS is {wanted} in a process on {socket.gethostname()} and {agreed} in the database, so "
            f"that process flushes nothing. Deploy one number everywhere, then run: {triggers.COMMAND}"
        )


def fingerprint() -> str:
    """A digest of which runs count, and for whom. A deploy that changes this makes rows wrong without a write."""
    the_host, settings = host(), conf.settings()
    parts = [
        the_host.run._meta.label, str(the_host.workspace), str(the_host.user), *map(str, the_host.path),
        str(the_host.used_at), described(the_host.run_filter), ",".join(sorted(settings.grains)),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def fingerprint_changed(row: Installation) -> bool:
    """Whether models, path, filter or grains differ from those that the table was kept for."""
    return row.fingerprint != fingerprint()


def request_rescan(reason: str) -> None:
    """Request a look at every workspace, for when all who write now have ended.

    It is needed whenever a problem of capture is over, because no change names what was missed.
    """
    if has_rows():
        only_row().update(rescan_waits_for=sorted(catalogue.writers()), rescan_reason=reason)


def lacks_history() -> bool:
    """Whether runs from before capture are not all in the table. A host that had no runs lacks nothing."""
    return bool(only_row().filter(lacks_history=True).exists())


def note_filled() -> None:
    """Note that all runs from before capture are in the table."""
    only_row().update(lacks_history=False)


def note_history() -> None:
    """Note, at the first installation, whether there are runs. Every earlier one is committed: the triggers are there.

    If our row is lost while the table has rows, nobody knows whether history was filled. Then this is not asked again,
    and comparisons call every difference drift: a false alarm is better than none.
    """
    ((has_runs,),) = rows(Sql(f"SELECT EXISTS (SELECT FROM {quoted(host().run._meta.db_table)})"))
    only_row().update(lacks_history=has_runs)


def has_rows() -> bool:
    """Whether our table has any row."""
    return bool(WorkspaceRecentWorkflow.objects.using(host().database).exists())


def only_row() -> Any:
    """The one row, as a queryset."""
    return Installation.objects.using(host().database).filter(pk=Installation.ONLY)
