from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.utils import timezone

from tests.hosts.adapter import Host, Truth
from tests.hosts.softly.models import Edition, Page, Site, Visit


class Softly(Host):
    name = "softly"
    workspace_field = "site"
    user_field = "visitor"
    used_at_field = "seen_at"
    large_column = "screenshot"
    hidden = {"deleted": timezone.now()}
    shown = {"deleted": None}
    closed = {"deleted": timezone.now()}
    opened = {"deleted": None}
    allows = frozenset({"workspace", "workflow", "soft deletion"})
    poison = ("garbage",)
    absent = "9223372036854775807"
    run_model = Visit
    workspace_model = Site
    workflow_model = Page

    def make_workspace(self) -> Any:
        return Site.objects.create()

    def make_user(self) -> Any:
        return str(uuid.uuid4())

    def make_workflow(self) -> Any:
        return Page.objects.create()

    def leading_to(self, workflow: Any) -> dict[str, Any]:
        return {"edition": None if workflow is None else Edition.objects.create(page=workflow)}

    def without_last_hop(self) -> dict[str, Any]:
        raise NotImplementedError("an edition always has its page")

    def touch(self, run: Any) -> None:
        run.seen_at = timezone.now()

    def insert_runs(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        return [visit.pk for visit in Visit.all_objects.bulk_create([Visit(**row) for row in rows])]

    def truths(self) -> Iterable[Truth]:
        sites = set(Site.objects.values_list("pk", flat=True))
        pages = set(Page.objects.values_list("pk", flat=True))
        page_of = dict(Edition.objects.values_list("pk", "page_id"))
        for visit, site, visitor, edition, seen_at in Visit.objects.values_list(
            "pk", "site_id", "visitor", "edition_id", "seen_at"
        ):
            page = page_of.get(edition)
            yield Truth(visit, site, visitor, page, seen_at, site in sites and page in pages)

    def user_text(self, user: Any) -> str:
        return str(user)


HOST = Softly()
