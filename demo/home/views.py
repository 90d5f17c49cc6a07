"""The home page, the part of it that updates, and a run's page."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from demo.bots.models import SavedRun, Workspace
from demo.cards import ago, cards
from demo.home.pages import Cost, Pipeline, listed_users, listed_workspaces
from workflows_tasks import recent_workflows

CARDS = 4
SIDEBAR = 20
LONGEST_USER = 128


@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """What was asked for in the switcher; without a workspace the first one, without the user if they are not there."""
    asked, user = request.GET.get("workspace", ""), _user(request)
    if not asked.isdecimal() and not listed_workspaces():
        raise Http404("There is no workspace.")
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
    """What the page asks for every second."""
    shown = get_object_or_404(Workspace, pk=workspace)
    response = render(request, "live.html", _recent(shown, _user(request)))
    response["Cache-Control"] = "no-store"
    return response


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
    recent = cards(workspace.pk, user, SIDEBAR)
    return {
        "workspace": workspace,
        "user": user,
        "cards": recent[:CARDS],
        "free_slots": range(CARDS - len(recent)),
        "recent": recent,
        "pipeline": Pipeline.now(),
        "cost": Cost.lately(workspace.pk, user),
    }
