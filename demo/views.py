"""The home page, and the part of it that updates."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from backfill.coverage import is_filled
from demo import measure, replaced
from demo.bots.models import SavedRun, Workspace
from demo.cards import cards
from demo.push.events import events
from demo.shape import EMPTY, HEAVIEST
from workflows_tasks import recent_workflows
from workflows_tasks.models import WORKSPACE_GRAIN, WorkspaceRecentWorkflow

CARDS = 4
SIDEBAR = 20
USERS_LISTED = 40
LATE_S = 10.0
"""Changes that wait longer than this are worth a notice."""


def home(request: HttpRequest) -> HttpResponse:
    """The home page of a workspace, for everybody or one user. A POST runs one of its workflows again."""
    listed = listed_workspaces()
    workspace, user = _asked(request, listed)
    listed += [workspace] if workspace and workspace not in listed else []
    if request.method == "POST" and workspace:
        again = get_object_or_404(SavedRun, pk=_key(request.POST.get("run", "")), workspace=workspace)
        SavedRun.objects.create(workspace=workspace, uid=user or again.uid, parent_version=again.parent_version)
        return redirect(request.get_full_path())
    rows = WorkspaceRecentWorkflow.objects.filter(workspace=workspace).exclude(uid=WORKSPACE_GRAIN)
    users = rows.order_by("uid").values_list("uid", flat=True).distinct()[:USERS_LISTED]
    costs = _costs(workspace.pk, user) if workspace else {}
    is_pushed = workspace is not None and apps.is_installed("demo.push")
    context = {"workspaces": listed, "users": sorted({*users, *([user] if user else [])}), "costs": costs}
    return render(request, "home.html", context | {"is_pushed": is_pushed} | _recent(workspace, user))


def live(request: HttpRequest) -> HttpResponse:
    """What the page asks for when something has changed, and every few seconds for the figures."""
    return render(request, "live.html", _recent(*_asked(request, [])))


def changes(request: HttpRequest) -> StreamingHttpResponse:
    """Events that say when to ask. They are not compressed: that would keep them back."""
    workspace, _ = _asked(request, [])
    if workspace is None:
        raise Http404("Name a workspace.")
    headers = {"Cache-Control": "no-cache", "Content-Encoding": "identity"}
    return StreamingHttpResponse(events(workspace.pk), content_type="text/event-stream", headers=headers)


def listed_workspaces() -> list[Workspace]:
    """Those to choose from: the ones with most history, a busy one first, those with most workflows, an empty one."""
    rows = WorkspaceRecentWorkflow.objects.filter(uid=WORKSPACE_GRAIN)
    many = rows.values("workspace").annotate(workflows=Count("id")).order_by("-workflows", "workspace")
    heaviest = [workspace for workspace, _, _ in reversed(HEAVIEST)]
    keys = [*heaviest, *many.values_list("workspace", flat=True)[:5], EMPTY]
    found = Workspace.objects.in_bulk(keys)
    return [found[key] for key in dict.fromkeys(keys) if key in found]


def _asked(request: HttpRequest, listed: list[Workspace]) -> tuple[Workspace | None, str | None]:
    """The workspace and the user asked for; without a workspace the first one, if there is any."""
    key, user = request.GET.get("workspace", ""), request.GET.get("user") or None
    if user and (len(user) > 128 or not user.isprintable()):
        raise Http404("No user has such a name.")
    if not key:
        return (listed[0] if listed else None), user
    return get_object_or_404(Workspace, pk=_key(key)), user


def _key(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _recent(workspace: Workspace | None, user: str | None) -> dict[str, Any]:
    """A user's own page is read fresh: what they just did is on it. That of everybody is a flush behind."""
    if workspace is None:
        return {"notice": "There is no workspace yet."}
    recent = cards(workspace.pk, user, SIDEBAR, fresh=user is not None)
    freshness = measure.Freshness.now()
    notice = ""
    if freshness.waiting_s > LATE_S and not user:
        notice = "Recent workflows are behind. Nothing is lost; they catch up by themselves."
    elif not is_filled(workspace):
        notice = "Older workflows are not all in yet. What is run now appears at once."
    lags = {q: measure.lag_s(freshness.counters, q / 100) for q in (50, 99)}
    if freshness.waiting_s > (lags[99] or 0.0):
        lags = dict.fromkeys(lags)  # they say nothing about now
    address = urlencode({"workspace": workspace.pk, "user": user or ""})
    shown = {"workspace": workspace, "user": user, "address": address, "freshness": freshness, "lags": lags}
    return {**shown, "cards": recent[:CARDS], "recent": recent, "notice": notice}


def _costs(workspace: int, user: str | None) -> dict[str, float]:
    """Milliseconds that this page's workflows take to find, the two ways."""
    return {
        "The old query, over all runs": measure.best_ms(lambda: replaced.recent_workflows(workspace, user), rounds=2),
        "The table": measure.best_ms(measure.statement(recent_workflows(workspace, user)), rounds=20),
    }
