"""Backfills in Django's admin: a list, the progress of each, and everything that can be asked of one.

Nothing is edited by hand: what is asked for goes through ``runner``, which notes who asked and refuses what cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.timezone import is_aware, localtime

from backfill import progress, rows, runner, states
from backfill.models import Event, Run
from backfill.states import RunStatus
from workflows_tasks import conf, operations
from workflows_tasks.errors import RecentWorkflowsError
from workflows_tasks.readonly import LookedAt

EVENTS_SHOWN: Final = 50

if TYPE_CHECKING:  # Django's own class takes no parameter
    ModelAdmin = admin.ModelAdmin[Run]
else:
    ModelAdmin = admin.ModelAdmin


class Control(NamedTuple):
    """Something that can be asked of a backfill."""

    change: Callable[..., Run]
    leads_to: frozenset[str]
    """Statuses of which one must be within reach."""
    means: str


CONTROLS: Final[Mapping[str, Control]] = {
    "pause": Control(runner.pause, frozenset({RunStatus.PAUSING}), "Workers stop after the transaction they are in."),
    "resume": Control(
        runner.resume,
        frozenset({RunStatus.RUNNING, RunStatus.VERIFYING, RunStatus.ENQUEUED}),
        "It goes on where it was; nothing is done again.",
    ),
    "retry": Control(runner.retry, frozenset(), "What failed is taken up once more."),
    "cancel": Control(
        runner.cancel, frozenset({RunStatus.CANCELLING}), "For good. What was filled stays, for it is true."
    ),
}


def possible(seen: progress.Progress) -> dict[str, Control]:
    """What can be asked of a backfill now."""
    status = seen.run.status
    targets = {edge.target for edge in states.RUN if edge.source == status}
    names = {name for name, control in CONTROLS.items() if control.leads_to & targets}
    if status != RunStatus.PAUSED:
        names.discard("resume")
    if seen.failures and status not in {RunStatus.CANCELLING, RunStatus.CANCELLED}:
        names.add("retry")
    return {name: control for name, control in CONTROLS.items() if name in names}


class StartForm(forms.Form):
    """A new backfill; what is left empty is as the settings say."""

    workspaces = forms.CharField(
        required=False, help_text="A-B, or A..B where keys have dashes: the first and the last. Empty: all."
    )
    since = forms.DateTimeField(required=False, help_text="Only runs used then or later. Empty: all of history.")
    chunk_size = forms.IntegerField(required=False, help_text="Runs of a chunk.")
    parallel = forms.IntegerField(required=False, help_text="Chunks at the same time.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = conf.settings()
        self.fields["chunk_size"].widget.attrs["placeholder"] = settings.backfill_chunk
        self.fields["parallel"].widget.attrs["placeholder"] = settings.backfill_parallel

    def start(self, actor: str) -> Run | None:
        """The new backfill; None if something in the form cannot be meant, which it then says."""
        asked = dict(self.cleaned_data)
        try:
            return runner.start(operations.workspaces(asked.pop("workspaces") or None), **asked, actor=actor)
        except RecentWorkflowsError as error:
            self.add_error(None, str(error))
            return None


@admin.register(Run)
class RunAdmin(LookedAt, ModelAdmin):
    """Who may view backfills sees them, who may change them controls them, who may add them starts them."""

    list_display = ("__str__", "which", "share", "actor", "started", "ended")
    list_filter = ("status",)
    list_per_page = 25
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)
    actions = ("pause", "resume", "retry")

    class Media:
        css: ClassVar = {"all": ("backfill/admin.css",)}

    def has_view_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_control_permission(request)

    def has_control_permission(self, request: HttpRequest) -> bool:
        return self.may_change(request)

    def has_start_permission(self, request: HttpRequest) -> bool:
        return self.may_add(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        found: QuerySet[Run] = rows.runs().order_by(*self.ordering)
        return found

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("start/", view(self.start_view), name="backfill_run_start"),
            path("<int:pk>/progress/", view(self.progress_view), name="backfill_run_progress"),
            path("<int:pk>/control/", view(self.control_view), name="backfill_run_control"),
            *super().get_urls(),
        ]

    @admin.display(description="Workspaces")
    def which(self, run: Run) -> str:
        if run.first_workspace is None and run.last_workspace is None:
            return "all"
        return f"{run.first_workspace or ''} to {run.last_workspace or ''}"

    @admin.display(description="Done")
    def share(self, run: Run) -> str:
        """Of open ones only: counting the chunks of each that ever was would make the list slow."""
        return f"{progress.of(run).phase.percent:.1f} %" if run.is_open else "–"

    @admin.display(description="Started")
    def started(self, run: Run) -> str:
        return _minute(run.created_at)

    @admin.display(description="Ended")
    def ended(self, run: Run) -> str:
        return _minute(run.finished_at) if run.finished_at else "–"

    @admin.action(description="Pause", permissions=["control"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self._control_all(request, queryset, "pause")

    @admin.action(description="Resume", permissions=["control"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self._control_all(request, queryset, "resume")

    @admin.action(description="Retry what failed", permissions=["control"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Run]) -> None:
        self._control_all(request, queryset, "retry")

    def _control_all(self, request: HttpRequest, queryset: QuerySet[Run], name: str) -> None:
        for pk in queryset.values_list("pk", flat=True):
            self._ask(request, pk, name, CONTROLS[name].change)

    def _ask(self, request: HttpRequest, pk: int, name: str, change: Callable[..., Run], *args: Any) -> None:
        """Ask something of a backfill, and say what came of it."""
        try:
            run = change(pk, *args, actor=request.user.get_username())
        except RecentWorkflowsError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Backfill {pk}: {name}. It is {run.status} now.")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        may_start = {"may_start": self.has_start_permission(request)}
        return super().changelist_view(request, {**may_start, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One backfill, live."""
        seen = self._seen(request, int(object_id) if object_id.isdecimal() else 0)
        context = {**_context(seen), **self._page(request, str(seen.run))}
        if self.has_control_permission(request):
            context |= {"controls": possible(seen), "most_parallel": runner.MOST_PARALLEL}
        return render(request, "admin/backfill/run/run.html", context)

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The part of the page that is asked for every second."""
        response = render(request, "admin/backfill/run/progress.html", _context(self._seen(request, pk)))
        response["Cache-Control"] = "no-store"
        return response

    def control_view(self, request: HttpRequest, pk: int) -> HttpResponseRedirect:
        """Do what was asked for, and back to the page."""
        if request.method != "POST" or not self.has_control_permission(request):
            raise PermissionDenied
        asked, parallel = request.POST.get("ask", ""), request.POST.get("parallel", "")
        if asked in CONTROLS:
            self._ask(request, pk, asked, CONTROLS[asked].change)
        elif parallel.isdecimal():
            self._ask(request, pk, f"{parallel} at a time", runner.set_parallel, int(parallel))
        else:
            messages.error(request, f"{parallel!r} is no number of chunks.")
        return redirect(self._address("change", pk))

    def start_view(self, request: HttpRequest) -> HttpResponse:
        """A form for a new backfill."""
        if not self.has_start_permission(request):
            raise PermissionDenied
        form = StartForm(request.POST if request.method == "POST" else None)
        if form.is_valid() and (run := form.start(request.user.get_username())):
            messages.success(request, f"Backfill {run.pk} is enqueued: a worker plans and fills it.")
            return redirect(self._address("change", run.pk))
        return render(
            request, "admin/backfill/run/start.html", {"form": form, **self._page(request, "Start a backfill")}
        )

    def _seen(self, request: HttpRequest, pk: int) -> progress.Progress:
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            return runner.status(pk)
        except runner.NoSuchBackfill as error:
            raise Http404(str(error)) from error

    def _page(self, request: HttpRequest, title: str) -> dict[str, Any]:
        return {**self.admin_site.each_context(request), "opts": self.opts, "title": title, "media": self.media}

    def _address(self, page: str, pk: int) -> str:
        return reverse(f"{self.admin_site.name}:backfill_run_{page}", args=[pk])


def _minute(moment: datetime) -> str:
    return f"{localtime(moment) if is_aware(moment) else moment:%Y-%m-%d %H:%M}"


def _context(seen: progress.Progress) -> dict[str, Any]:
    """What the live part shows; times rounded to seconds, as people read them."""
    events = Event.objects.using(seen.run._state.db).filter(run=seen.run).order_by("-id")[:EVENTS_SHOWN]
    left = None if seen.eta_s is None else timedelta(seconds=round(seen.eta_s))
    return {"seen": seen, "run": seen.run, "left": left, "events": events, "working": seen.run.status in states.WORKING}
