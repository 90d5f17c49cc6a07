"""The home page, the part of it that updates, and a run's page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from backfill import coverage
from demo.bots.models import SavedRun, Workspace
from demo.cards import ago, cards
from demo.home.condition import Condition, Pipeline
from demo.home.pages import Cost, listed_users, listed_workspaces
from workflows_tasks import recent_workflows

CARDS = 4
SIDEBAR = 20
LONGEST_USER = 128


@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """What was asked for in the switcher; without a workspace the first one, without the user if they are not there."""
    asked, user = request.GET.get("workspace", ""), _user(request)
    if not asked.isdecimal() and not listed_workspaces():
        return render(request, "nothing.html")
    workspace = int(asked) if asked.isdecimal() else listed_workspaces()[0].pk
    query = f"?{urlencode({'user': user})}" if user and recent_workflows(workspace, user, limit=1).exists() else ""
    return redirect(reverse("home", args=[workspace]) + query)


@require_safe
def home(request: HttpRequest, workspace: int) -> HttpResponse:
    shown = get_object_or_404(Workspace, pk=workspace)
    user = _user(request)
    context = {"workspaces": listed_workspaces(), "users": listed_users(shown, user), **_recent(shown, user)}
    return render(request, "home.html", context)


@require_safe
def live(request: HttpRequest, workspace: int) -> HttpResponse:
    """What the page asks for twice a second. Unchanged, it costs a few bytes: the browser has it by its ETag."""
    shown = get_object_or_404(Workspace, pk=workspace)
    response = render(request, "live.html", _recent(shown, _user(request)))
    response["Cache-Control"] = "private, no-cache"
    return response


@require_safe
@cache_control(max_age=86_400)
def photo(request: HttpRequest, workflow: int) -> HttpResponse:
    """A picture for a workflow whose makers gave it one: in a demo, drawn from its number."""
    shape = {"hue": workflow * 137 % 360, "x": 8 + workflow * 31 % 40, "y": 10 + workflow * 17 % 30}
    return render(request, "photo.svg", shape, content_type="image/svg+xml")


@require_safe
def run(request: HttpRequest, run: int) -> HttpResponse:
    related = ("workspace", "parent_version__published_run")
    shown = get_object_or_404(SavedRun.objects.select_related(*related), pk=run)
    return render(request, "run.html", {"run": shown, "ago": ago(shown.updated_at)})


def _user(request: HttpRequest) -> str | None:
    user = request.GET.get("user") or None
    if user and (len(user) > LONGEST_USER or not user.isprintable()):
        raise Http404("No user has such a name.")
    return user


def _recent(workspace: Workspace, user: str | None) -> dict[str, Any]:
    recent, pipeline = cards(workspace.pk, user, SIDEBAR), Pipeline.now()
    filling = not coverage(workspace).is_filled
    return {
        "workspace": workspace,
        "user": user,
        "cards": recent[:CARDS],
        "free_places": range(len(recent), CARDS),
        "recent": recent,
        "condition": Condition.of(pipeline, filling=filling),
        "pipeline": pipeline,
        "cost": Cost.lately(workspace.pk, user),
    }
