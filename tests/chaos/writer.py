"""One of the soak's writers: ``python -m tests.chaos.writer PROGRESS OPERATIONS RATE SEED``.

It writes in every way that a host may: the ORM, bulk writes, cascades, raw SQL. It goes on through whatever happens to
its database, and tells in the file ``PROGRESS`` how many operations have committed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

WORKSPACES: Final = 40
WORKFLOWS: Final = 25
USERS: Final = 30
MOST_RUNS: Final = 4_000
"""Runs that a writer remembers."""


def populate() -> None:
    """What there is before the writers begin."""
    from demo.bots.models import PublishedRun, PublishedRunVersion, Workspace

    Workspace.objects.bulk_create([Workspace(name=f"Workspace {n}") for n in range(WORKSPACES)])
    workflows = PublishedRun.objects.bulk_create([PublishedRun(title=f"Workflow {n}") for n in range(WORKFLOWS)])
    PublishedRunVersion.objects.bulk_create(
        [PublishedRunVersion(published_run=workflow) for workflow in workflows for _ in range(3)]
    )


class Writer:
    """Writes at random. Call ``write`` again and again."""

    def __init__(self, draw: random.Random) -> None:
        from demo.bots.models import SavedRun

        self._draw = draw
        self._model = SavedRun
        self._runs: list[int] = []
        self.refused = 0
        self._ways: dict[Callable[[], object], int] = {
            self._save: 40, self._new: 12, self._move: 8, self._hide: 4, self._show: 3, self._delete: 4,
            self._backdate: 4, self._update: 4, self._bulk_create: 4, self._bulk_update: 3, self._raw: 6,
            self._rolled_back: 3, self._several: 3, self._long: 1, self._repoint: 2, self._delete_version: 1,
            self._delete_workflow: 1, self._delete_workspace: 1,
        }  # fmt: skip

    def write(self) -> bool:
        """One operation; False if the database kept it from committing."""
        from django.db import DatabaseError, InterfaceError, connection

        (way,) = self._draw.choices(list(self._ways), list(self._ways.values()))
        try:
            way()
        except (DatabaseError, InterfaceError, self._model.DoesNotExist):
            self.refused += 1
            connection.close()
            return False
        del self._runs[:-MOST_RUNS]
        return True

    def _place(self) -> dict[str, Any]:
        from demo.bots.models import PublishedRunVersion, Workspace

        versions = list(PublishedRunVersion.objects.values_list("pk", flat=True))
        workspaces = list(Workspace.objects.values_list("pk", flat=True))
        return {
            "workspace_id": workspaces[int(len(workspaces) * self._draw.random() ** 3)],
            "parent_version_id": self._draw.choice(versions) if self._draw.random() > 0.03 else None,
            "uid": f"user-{self._draw.randrange(USERS)}" if self._draw.random() > 0.03 else None,
        }

    def _new(self) -> Any:
        run = self._model.objects.create(**self._place())
        self._runs.append(run.pk)
        return run

    def _some(self, most: int) -> Any:
        keys = self._draw.sample(self._runs, min(self._draw.randint(1, most), len(self._runs)))
        return self._model.objects.filter(pk__in=sorted(keys)).order_by("pk")

    def _one(self) -> Any:
        """One of the newest, as a rule: an execution is saved again and again."""
        recent = self._runs[-20:] if self._draw.random() < 0.7 else self._runs
        found = self._model.objects.filter(pk=self._draw.choice(recent)).first() if recent else None
        return found or self._new()

    def _save(self) -> None:
        self._one().save()

    def _move(self) -> None:
        run, place = self._one(), self._place()
        part = self._draw.choice(list(place))
        setattr(run, part, place[part])
        run.save()

    def _hide(self) -> None:
        self._set(surface=1)

    def _show(self) -> None:
        self._set(surface=0)

    def _set(self, **fields: Any) -> None:
        run = self._one()
        for name, value in fields.items():
            setattr(run, name, value)
        run.save(update_fields=list(fields))

    def _delete(self) -> None:
        self._one().delete()

    def _backdate(self) -> None:
        self._some(3).update(updated_at=self._moment())

    def _update(self) -> None:
        self._some(20).update(**self._place())

    def _bulk_create(self) -> None:
        place = self._place()
        made = self._model.objects.bulk_create([self._model(**place) for _ in range(self._draw.randint(1, 10))])
        self._runs += [run.pk for run in made]

    def _bulk_update(self) -> None:
        runs = list(self._some(10))
        for run in runs:
            run.updated_at, run.uid = self._moment(), f"user-{self._draw.randrange(USERS)}"
        self._model.objects.bulk_update(runs, ["updated_at", "uid"])

    def _raw(self) -> None:
        from django.db import connection

        statement = self._draw.choice(
            [
                "UPDATE bots_savedrun SET updated_at = now() WHERE id = %s",
                "UPDATE bots_savedrun SET surface = 1 - least(surface, 1) WHERE id = %s",
                "DELETE FROM bots_savedrun WHERE id = %s",
                "UPDATE bots_savedrun SET parent_version_id = NULL WHERE id = %s",
            ]
        )
        with connection.cursor() as cursor:
            cursor.execute(statement, [self._one().pk])

    def _rolled_back(self) -> None:
        from django.db import transaction

        with transaction.atomic():
            self._move()
            self._delete()
            transaction.set_rollback(True)

    def _several(self) -> None:
        from django.db import transaction

        with transaction.atomic():
            for _ in range(3):
                with transaction.atomic():
                    self._move()

    def _long(self) -> None:
        from django.db import transaction

        with transaction.atomic():
            self._new()
            time.sleep(self._draw.uniform(0.1, 1.5))  # a host's slow request

    def _repoint(self) -> None:
        """A version leads to another workflow: all of its runs change their key, and none is written."""
        from demo.bots.models import PublishedRun, PublishedRunVersion

        version = self._draw.choice(list(PublishedRunVersion.objects.values_list("pk", flat=True)))
        workflow = self._draw.choice(list(PublishedRun.objects.values_list("pk", flat=True)))
        PublishedRunVersion.objects.filter(pk=version).update(published_run=workflow)

    def _delete_version(self) -> None:
        from demo.bots.models import PublishedRun, PublishedRunVersion

        self._draw.choice(list(PublishedRunVersion.objects.all())).delete()
        PublishedRunVersion.objects.create(published_run=self._draw.choice(list(PublishedRun.objects.all())))

    def _delete_workflow(self) -> None:
        from demo.bots.models import PublishedRun, PublishedRunVersion

        self._draw.choice(list(PublishedRun.objects.all())).delete()
        PublishedRunVersion.objects.create(published_run=PublishedRun.objects.create(title="Another"))

    def _delete_workspace(self) -> None:
        from demo.bots.models import Workspace

        self._draw.choice(list(Workspace.objects.all())).delete()
        Workspace.objects.create(name="Another")

    def _moment(self) -> Any:
        from datetime import timedelta

        from django.utils import timezone

        return timezone.now() - timedelta(seconds=self._draw.uniform(0, 600))


def main(progress: Path, operations: int, rate: float, seed: int) -> None:
    import django

    import celeryconfig  # noqa: F401  # saves send their messages through the host's Celery app

    django.setup()
    writer = Writer(random.Random(seed))
    done = 0
    started_s = time.monotonic()
    while done < operations:
        done += writer.write()
        if done % 20 == 0 or done == operations:
            _tell(progress, done, writer.refused)
        if rate:
            time.sleep(max(0.0, started_s + done / rate - time.monotonic()))


def _tell(progress: Path, done: int, refused: int) -> None:
    written = progress.with_suffix(".new")
    written.write_text(json.dumps({"done": done, "refused": refused}))
    written.rename(progress)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
