"""Backfills in Django's admin: a list, the progress of each, and everything that can be asked of one.

Nothing is edited by hand: what is asked for goes through ``control``, which notes who asked and refuses what cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final, NamedTuple

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse

from backfill import control, models, progress, states
from backfill.models import Backfill
from backfill.states import BackfillStatus, Kind
from workflows_tasks import history
from workflows_tasks.admin_base import ReadOnlyAdmin
from workflows_tasks.errors import RecentWorkflowsError

TEMPLATES: Final = "admin/backfill/backfill"


class Control(NamedTuple):
    """Something that can be asked of a backfill."""

    change: Callable[..., Backfill]
    possible_in: frozenset[str]
    """Statuses in which it can be asked."""
    means: str


_S = BackfillStatus
_BUSY: Final = frozenset({_S.ENQUEUED, _S.PLANNING, *states.WORKING})

CONTROLS: Final[Mapping[str, Control]] = {
    "pause": Control(control.pause, _BUSY, "Workers stop after the transaction they are in."),
    "resume": Control(
        control.resume, frozenset({_S.PAUSED, _S.FAILED}), "It goes on where it was; what was refused is tried again."
    ),
    "cancel": Control(control.cancel, _BUSY | {_S.PAUSED}, "For good. What was filled stays, for it is true."),
}


def possible(shown: progress.Progress) -> dict[str, Control]:
    """What can be asked of a backfill now."""
    names = {name for name, asked in CONTROLS.items() if shown.backfill.status in asked.possible_in}
    return {name: asked for name, asked in CONTROLS.items() if name in names}


class StartForm(forms.Form):
    """A new backfill; what is left empty is as the settings say."""

    workspaces = forms.CharField(
        required=False, help_text="A-B, or A..B where keys have dashes: the first and the last. Empty: all."
    )
    chunk_size = forms.IntegerField(initial=control.CHUNK_SIZE, help_text="Runs of a chunk.")
    concurrency = forms.IntegerField(initial=control.CONCURRENCY, help_text="Chunks at the same time.")

    def start(self, actor: str) -> Backfill | None:
        """The new backfill; None if something in the form cannot be meant, which it then says."""
        asked = dict(self.cleaned_data)
        try:
            return control.start(history.parse_range(asked.pop("workspaces") or None), **asked, actor=actor)
        except RecentWorkflowsError as error:
            self.add_error(None, str(error))
            return None


@admin.register(Backfill)
class BackfillAdmin(ReadOnlyAdmin):
    """Who may view backfills sees them, who may change them controls them, who may add them starts them."""

    list_display = ("__str__", "which", "share", "actor", "created_at", "finished_at")
    list_filter = ("status",)
    list_per_page = 25
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)
    actions = None

    class Media:
        css: ClassVar = {"all": ("backfill/admin.css",)}

    def has_view_permission(self, request: HttpRequest, obj: Backfill | None = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_control_permission(request)

    def has_control_permission(self, request: HttpRequest) -> bool:
        return self.may_change(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may_add(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backfill]:
        every: QuerySet[Backfill] = models.backfills().order_by(*self.ordering)
        return every

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/progress/", view(self.progress_view), name="backfill_backfill_progress"),
            path("<int:pk>/control/", view(self.control_view), name="backfill_backfill_control"),
            *super().get_urls(),
        ]

    @admin.display(description="Workspaces")
    def which(self, backfill: Backfill) -> str:
        if backfill.first_workspace is None and backfill.last_workspace is None:
            return "all"
        return f"{backfill.first_workspace or ''} to {backfill.last_workspace or ''}"

    @admin.display(description="Done")
    def share(self, backfill: Backfill) -> str:
        if backfill.status == BackfillStatus.SUCCEEDED:
            return "100.0 %"
        kind = models.KIND.get(backfill.status, Kind.FILL)
        return f"{progress.phase(backfill, kind).percent:.1f} %"

    def _ask(self, request: HttpRequest, pk: int, name: str, change: Callable[..., Backfill], *args: Any) -> None:
        """Ask something of a backfill, and say what came of it."""
        try:
            backfill = change(pk, *args, actor=request.user.get_username())
        except RecentWorkflowsError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Backfill {pk}: {name}. It is {backfill.status} now.")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One backfill, live."""
        shown = self._shown(request, int(object_id) if object_id.isdecimal() else 0)
        context = {**_context(shown), **self._page(request, str(shown.backfill))}
        if self.has_control_permission(request):
            context |= {"controls": possible(shown), "most_concurrent": control.MOST_CONCURRENT}
        return render(request, f"{TEMPLATES}/backfill.html", context)

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that is asked for every second."""
        response = render(request, f"{TEMPLATES}/progress.html", _context(self._shown(request, pk)))
        response["Cache-Control"] = "no-store"
        return response

    def control_view(self, request: HttpRequest, pk: int) -> HttpResponseRedirect:
        """Do what was asked for, and back to the page."""
        if request.method != "POST" or not self.has_control_permission(request):
            raise PermissionDenied
        asked, concurrency = request.POST.get("ask", ""), request.POST.get("concurrency", "")
        if asked in CONTROLS:
            self._ask(request, pk, asked, CONTROLS[asked].change)
        elif concurrency.isdecimal():
            self._ask(request, pk, f"{concurrency} at a time", control.set_concurrency, int(concurrency))
        else:
            messages.error(request, f"{concurrency!r} is no number of chunks.")
        return redirect(self._address("change", pk))

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A form that starts a backfill."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = StartForm(request.POST if request.method == "POST" else None)
        if form.is_valid() and (backfill := form.start(request.user.get_username())):
            messages.success(request, f"Backfill {backfill.pk} is enqueued: a worker plans and fills it.")
            return redirect(self._address("change", backfill.pk))
        return render(request, f"{TEMPLATES}/start.html", {"form": form, **self._page(request, "Start a backfill")})

    def _shown(self, request: HttpRequest, pk: int) -> progress.Progress:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            return control.status(pk)
        except control.NoSuchBackfill as error:
            raise Http404(str(error)) from error

    def _page(self, request: HttpRequest, title: str) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "opts": self.opts, "title": title, "media": self.media}

    def _address(self, page: str, pk: int) -> str:
        return reverse(f"{self.admin_site.name}:backfill_backfill_{page}", args=[pk])


def _context(shown: progress.Progress) -> dict[str, Any]:
    """What the live part shows; times rounded to seconds, as people read them."""
    left = None if shown.eta_s is None else timedelta(seconds=round(shown.eta_s))
    is_working = shown.backfill.status in states.WORKING
    return {"shown": shown, "backfill": shown.backfill, "left": left, "working": is_working}
