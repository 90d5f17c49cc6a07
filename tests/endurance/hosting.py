"""What a platform and its people do to runs, at random and in all the ways of writing.

A loss may meet any of it, and at the end the sweep alone must have made all losses good. So nothing here makes a run
newest under a time that the sweep has passed already, as un-hiding an old run without touching it would: that is the
audit's, and ``test_properties`` has it.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from demo.bots.models import PublishedRun, PublishedRunVersion, SavedRun, Workspace
from workflows_tasks import announce
from workflows_tasks.querysets import AnnouncingQuerySet

WORKSPACES: Final = 200
USERS: Final = 300
WORKFLOWS: Final = 60
REMEMBERED: Final = 3_000
"""Runs that a writer goes on changing."""

BACKDATED_S: Final = 30.0
"""Most seconds that a time is set back: less than the sweep looks at again."""


def populate() -> None:
    """Workspaces and workflows, before the writers start."""
    Workspace.objects.bulk_create(Workspace(name=f"Workspace {n}") for n in range(WORKSPACES))
    for workflow in PublishedRun.objects.bulk_create(PublishedRun(title=f"Workflow {n}") for n in range(WORKFLOWS)):
        _add_versions(workflow)


def _add_versions(workflow: PublishedRun) -> None:
    PublishedRunVersion.objects.bulk_create(PublishedRunVersion(published_run=workflow, number=n) for n in (1, 2))


class Hosting:
    """The random choices of one writer."""

    def __init__(self, seed: str) -> None:
        self._draw = random.Random(seed)
        self._runs: deque[int] = deque(maxlen=REMEMBERED)
        self._under_way: list[SavedRun] = []
        self._weighted: list[tuple[str, float, Callable[[], object]]] = [
            ("save", 55, self._save),
            ("new run", 14, self._new_run),
            ("move", 5, self._move),
            ("hide", 2, self._hide),
            ("show", 2, lambda: self._write(self._some(1), surface=0, updated_at=timezone.now())),
            ("save of some fields", 4, self._save_some_fields),
            ("save of what does not matter", 2, self._save_irrelevant),
            ("backdate", 2, self._backdate),
            ("delete", 2, self._delete),
            ("delete several", 0.5, lambda: SavedRun.objects.filter(pk__in=self._some(5)).delete()),
            ("bulk_create", 2, self._bulk_create),
            ("update by mixin", 3, lambda: self._announcing(self._some(5)).update(**self._place(), **_now())),
            ("bulk_update by mixin", 1, self._bulk_update),
            ("update, then announce", 2, lambda: self._write(self._some(5), **self._place(), **_now())),
            ("silent update", 1, lambda: self._of(self._some(3)).update(**self._place(), **_now())),
            ("announced for nothing", 1, lambda: announce(self._some(20))),
            ("several in one transaction", 1, self._several),
            ("rolled back", 1, self._rolled_back),
            ("long transaction", 0.05, self._long_transaction),
            ("version deleted", 0.1, self._delete_version),
            ("workflow deleted", 0.03, self._delete_workflow),
            ("workspace deleted", 0.03, self._delete_workspace),
        ]
        self._kinds = [(kind, do) for kind, _, do in self._weighted]
        self._weights = [weight for _, weight, _ in self._weighted]
        self.refresh()

    def choose(self) -> tuple[str, Callable[[], object]]:
        (chosen,) = self._draw.choices(self._kinds, self._weights)
        return chosen

    def refresh(self) -> None:
        """See what workspaces and versions there are now: others delete some, and make others."""
        self._workspaces = list(Workspace.objects.order_by("pk").values_list("pk", flat=True))
        self._versions = list(PublishedRunVersion.objects.order_by("pk").values_list("pk", flat=True))
        self._under_way = []

    def _place(self) -> dict[str, Any]:
        """Where a run belongs; a few workspaces have most of them."""
        return {
            "workspace_id": self._workspaces[int(len(self._workspaces) * self._draw.random() ** 3)],
            "parent_version_id": self._draw.choice(self._versions) if self._draw.random() > 0.02 else None,
            "uid": f"user-{int(USERS * self._draw.random() ** 2)}" if self._draw.random() > 0.03 else None,
        }

    def _some(self, most: int) -> list[int]:
        wanted = min(self._draw.randint(1, most), len(self._runs))
        return sorted(self._draw.sample(self._runs, wanted))

    def _one(self) -> SavedRun | None:
        found: SavedRun | None = SavedRun.objects.filter(pk__in=self._some(1)).first()
        return found

    def _new_run(self) -> SavedRun:
        run: SavedRun = SavedRun.objects.create(**self._place(), state={"step": 0})
        self._runs.append(run.pk)
        self._under_way = [*self._under_way[-20:], run]
        return run

    def _save(self) -> None:
        run = self._draw.choice(self._under_way) if self._under_way else self._new_run()
        run.state["step"] += 1
        run.save()

    def _change(self, **fields: Any) -> None:
        run = self._one()
        if run is not None:
            for name, value in fields.items():
                setattr(run, name, value)
            run.save()

    def _move(self) -> None:
        place = self._place()
        part = self._draw.choice(list(place))
        self._change(**{part: place[part]})

    def _hide(self) -> None:
        run = self._one()
        if run is not None:
            run.surface = 1
            run.save(update_fields=["surface"])

    def _save_some_fields(self) -> None:
        run = self._draw.choice(self._under_way) if self._under_way else self._new_run()
        run.save(update_fields=["updated_at", "state"])

    def _save_irrelevant(self) -> None:
        run = self._one()
        if run is not None:
            run.save(update_fields=["state"])

    def _backdate(self) -> None:
        when = timezone.now() - timedelta(seconds=self._draw.uniform(0, BACKDATED_S))
        self._write(self._some(2), updated_at=when)

    def _delete(self) -> None:
        run = self._one()
        if run is not None:
            run.delete()

    def _bulk_create(self) -> None:
        made = _announcing().bulk_create([SavedRun(**self._place()) for _ in range(self._draw.randint(1, 5))])
        self._runs.extend(run.pk for run in made)

    def _bulk_update(self) -> None:
        runs = list(self._of(self._some(5)))
        for run in runs:
            run.updated_at, run.uid = timezone.now(), self._place()["uid"]
        self._announcing([]).bulk_update(runs, ["updated_at", "uid"])

    def _write(self, runs: Sequence[int], **fields: Any) -> None:
        self._of(runs).update(**fields)
        announce(runs)

    def _several(self) -> None:
        with transaction.atomic():
            for _ in range(3):
                with transaction.atomic():
                    self._move()

    def _rolled_back(self) -> None:
        with transaction.atomic():
            self._move()
            self._hide()
            transaction.set_rollback(True)

    def _long_transaction(self) -> None:
        with transaction.atomic():
            self._new_run()
            time.sleep(self._draw.uniform(0.5, 3))

    def _delete_version(self) -> None:
        PublishedRunVersion.objects.get(pk=self._draw.choice(self._versions)).delete()
        self._make_up()

    def _delete_workflow(self) -> None:
        version = PublishedRunVersion.objects.get(pk=self._draw.choice(self._versions))
        version.published_run.delete()
        self._make_up()

    def _delete_workspace(self) -> None:
        Workspace.objects.filter(pk=self._draw.choice(self._workspaces)).delete()
        self._make_up()

    def _make_up(self) -> None:
        Workspace.objects.create(name="Another")
        _add_versions(PublishedRun.objects.create(title="Another"))
        self.refresh()

    def _announcing(self, runs: Sequence[int]) -> AnnouncingQuerySet[Any]:
        found: AnnouncingQuerySet[Any] = _announcing().filter(pk__in=runs)
        return found

    def _of(self, runs: Sequence[int]) -> Any:
        return SavedRun.objects.filter(pk__in=runs)


def _announcing() -> AnnouncingQuerySet[Any]:
    of_runs: AnnouncingQuerySet[Any] = AnnouncingQuerySet(SavedRun)
    return of_runs


def _now() -> dict[str, Any]:
    return {"updated_at": timezone.now()}
