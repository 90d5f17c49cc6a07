"""Who acts in a round of the stress, and the ways in which a host changes its runs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from django.db import IntegrityError, connection, transaction

from tests.exactness.scene import TABLE
from tests.hosts.adapter import Host, moment
from workflows_tasks import announce, inbox
from workflows_tasks.host import host as resolved
from workflows_tasks.querysets import AnnouncingQuerySet

RUNS = range(1, 9)
MOMENTS = range(8)


class Cast:
    """Workspaces of each shard, users, and versions that lead to workflows; made once, for all rounds."""

    def __init__(self, host: Host, shards: int) -> None:
        self.host = host
        self.workspaces = [self._workspace(shard) for shard in range(shards)]
        self.users = [host.make_user() for _ in range(2)]
        self.workflows = [host.make_workflow() for _ in range(2)]
        self.versions = [host.leading_to(self.workflows[number // 2]) for number in range(3)]

    def clear(self) -> None:
        """No runs, no rows; whoever was moved by the round before is back."""
        run_table = connection.ops.quote_name(self.host.run_model._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {run_table}, {TABLE} CASCADE")

    def _workspace(self, shard: int) -> Any:
        while inbox.shard_of(self.host.workspace_key(made := self.host.make_workspace())) != shard:
            pass
        return made

    def fields(self, chance: random.Random) -> dict[str, Any]:
        """Where a run might be."""
        return {
            self.host.workspace_field: chance.choice([*self.workspaces * 3, None]),
            self.host.user_field: chance.choice(self.users),
            **chance.choice(self.versions),
        }


def change(cast: Cast, chance: random.Random, nap: Callable[[], None]) -> None:
    """One change to one run, or to a version, in a transaction of its own."""
    key = chance.choice(RUNS)
    try:
        with transaction.atomic():
            run = cast.host.run_model._base_manager.select_for_update().filter(pk=key).first()
            if run is None:
                _create(cast, key, chance)
            else:
                chance.choice(CHANGES)(cast, run, chance)
            nap()
    except IntegrityError:  # another writer made the same run
        pass


def _create(cast: Cast, key: int, chance: random.Random) -> None:
    run = cast.host.run_model(pk=key, **cast.fields(chance), **cast.host.shown)
    run.save(force_insert=True)
    cast.host.set_used_at(run, moment(chance.choice(MOMENTS)))


def _delete(cast: Cast, run: Any, chance: random.Random) -> None:
    """Loaded whole or in part, by itself or by a queryset."""
    runs = cast.host.run_model._base_manager.filter(pk=run.pk)
    chance.choice([run.delete, lambda: runs.only("pk").get().delete(), runs.delete])()


def _hide_or_show(cast: Cast, run: Any, chance: random.Random) -> None:
    """Half of the time by an instance that did not load its workspace."""
    hidden = all(getattr(run, name) == value for name, value in cast.host.hidden.items())
    if chance.random() < 0.5:
        run = cast.host.run_model._base_manager.only("pk").get(pk=run.pk)
    if hidden:
        cast.host.unhide(run)
    else:
        cast.host.hide(run)


def _move(cast: Cast, run: Any, chance: random.Random) -> None:
    name, value = chance.choice(list(cast.fields(chance).items()))
    setattr(run, name, value)
    run.save(update_fields=[name])


def _move_everywhere(cast: Cast, run: Any, chance: random.Random) -> None:
    AnnouncingQuerySet(cast.host.run_model).filter(pk=run.pk).update(**cast.fields(chance))


def _use(cast: Cast, run: Any, chance: random.Random) -> None:
    """At another moment: earlier, later, or another run's."""
    cast.host.set_used_at(run, moment(chance.choice(MOMENTS)))
    announce([run.pk])


def _lead_version_on(cast: Cast, run: Any, chance: random.Random) -> None:
    *hops, last = resolved().path
    version = run
    for hop in hops:
        version = getattr(version, hop.name)
    if version is not None and version is not run:
        setattr(version, last.name, chance.choice(cast.workflows))
        version.save()


CHANGES: list[Callable[[Cast, Any, random.Random], None]] = [
    *[_delete] * 4, *[_hide_or_show] * 3, *[_move] * 5, *[_move_everywhere] * 2, *[_use] * 5, _lead_version_on,
]  # fmt: skip
"""By how often they happen."""
