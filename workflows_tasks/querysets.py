"""For writes that Django sends no signal for: a mixin for the run model's own queryset.

::

    class SavedRun(models.Model):
        objects = AnnouncingQuerySet.as_manager()

or, with a queryset of its own, ``class SavedRunQuerySet(AnnouncingMixin, models.QuerySet)``. The async variants call
these methods, so they announce too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.db import transaction
from django.db.models import Model, QuerySet
from django.db.models.signals import post_delete, pre_delete

from workflows_tasks.announcements import announce_or_report

M = TypeVar("M", bound=Model)


class AnnouncingMixin(QuerySet[M]):
    """Announces the rows of ``update``, ``bulk_create`` and ``delete`` when their transaction commits.

    ``bulk_update`` and the async variants are made of these. An update may take rows out of the very queryset that
    makes it; so the rows are named, and locked, before they are written, and it is those rows that are written.
    """

    def update(self, **kwargs: Any) -> int:
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            named = self.model._base_manager.using(self.db).filter(pk__in=self.order_by().values("pk")).order_by()
            # As the update locks them itself: it waits for nobody who only points to a run.
            runs = list(named.select_for_update(no_key=True).values_list("pk", flat=True))
            changed = super(AnnouncingMixin, self.filter(pk__in=runs)).update(**kwargs)
            announce_or_report(runs, using=self.db)
        return changed

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[M], *args: Any, **kwargs: Any) -> list[M]:
        self._for_write = True
        with transaction.atomic(using=self.db, savepoint=False):
            made = super().bulk_create(objs, *args, **kwargs)
            # With ignore_conflicts the database does not say which rows it made; those had no key and are new, so the
            # sweep finds them by their time.
            announce_or_report([run for run in made if run.pk is not None], using=self.db)
        return made

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete without loading more than the keys, unless a host's own receiver wants whole runs."""
        if any(signal.has_listeners(self.model) for signal in (pre_delete, post_delete)) or self.query.select_related:
            return super().delete()
        return super(AnnouncingMixin, self.only("pk")).delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class AnnouncingQuerySet(AnnouncingMixin[M]):
    """The mixin as a queryset, for a run model that has none of its own."""
