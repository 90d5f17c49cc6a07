"""Backfills in Django's admin: a list, the progress of each, and actions that start and steer them.

Nothing is edited by hand. ``control`` does what is asked for, logs who asked, and refuses what is not possible.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from backfill import console, control, models, states
from backfill.models import Backfill
from workflows_tasks import history
from workflows_tasks.admin_base import ReadOnlyAdmin
from workflows_tasks.errors import RecentWorkflowsError


class StartForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new backfill."""

    workspaces = forms.CharField(
        required=False, help_text="A..B: the keys of the first and the last; or one key. Empty: all."
    )
    chunk_size = forms.IntegerField(initial=control.CHUNK_SIZE, help_text="Runs of a chunk.")
    concurrency = forms.IntegerField(initial=control.CONCURRENCY, help_text="Chunks at the same time.")

    class Meta:
        model = Backfill
        fields = ("chunk_size", "concurrency")

    def clean(self) -> dict[str, Any]:
        asked = self.cleaned_data
        try:
            workspaces = history.parse_range(asked.get("workspaces") or None)
            if not self.errors:
                control.check_start(asked["chunk_size"], asked["concurrency"])
        except RecentWorkflowsError as error:
            raise ValidationError(str(error)) from error
        return {**asked, "workspaces": workspaces}


@admin.register(Backfill)
class BackfillAdmin(ReadOnlyAdmin):
    """Who may view backfills sees them, who may change them steers them, who may add them starts them."""

    list_display = ("state", "actor", "created_at", "finished_at")
    list_filter = ("status",)
    list_per_page = 10
    show_facets = admin.ShowFacets.NEVER
    ordering = ("-id",)
    actions = ("pause", "resume", "cancel")

    def has_view_permission(self, request: HttpRequest, obj: Backfill | None = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_steer_permission(request)

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return self.may_change(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.may_add(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Backfill]:
        every: QuerySet[Backfill] = models.backfills().order_by(*self.ordering)
        return every

    def get_form(self, request: HttpRequest, obj: Backfill | None = None, *args: Any, **kwargs: Any) -> Any:
        return super().get_form(request, obj, *args, **kwargs) if obj else StartForm

    def get_fields(self, request: HttpRequest, obj: Backfill | None = None) -> Any:
        return ("progress",) if obj else ("workspaces", "chunk_size", "concurrency")

    def get_readonly_fields(self, request: HttpRequest, obj: Backfill | None = None) -> Any:
        return ("progress",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Backfill, form: Any, change: Any) -> None:
        obj.pk = control.start(**form.cleaned_data, actor=request.user.get_username()).pk

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        response: HttpResponse = super().change_view(request, object_id, *args, **kwargs)
        if (
            response.status_code == HTTPStatus.OK
            and models.backfills().filter(pk=object_id, status__in=states.NOT_ENDED).exists()
        ):
            response["Refresh"] = "2"  # seconds
        return response

    @admin.display(description="Backfill")
    def state(self, backfill: Backfill) -> str:
        return "".join(console.in_one_line(control.status(backfill.pk)))

    @admin.display(description="Progress")
    def progress(self, backfill: Backfill) -> str:
        """As ``manage.py backfill status`` prints it."""
        lines = console.of_progress(control.status(backfill.pk))
        return format_html('<pre class="backfill" tabindex="0">{}</pre>', "\n".join(lines))

    @admin.action(description="Pause: workers stop after the transaction they are in", permissions=["steer"])
    def pause(self, request: HttpRequest, chosen: QuerySet[Backfill]) -> None:
        _steer(request, chosen, control.pause)

    @admin.action(description="Resume: go on, and try again what was refused", permissions=["steer"])
    def resume(self, request: HttpRequest, chosen: QuerySet[Backfill]) -> None:
        _steer(request, chosen, control.resume)

    @admin.action(description="Cancel for good: what was filled stays", permissions=["steer"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Backfill]) -> None:
        _steer(request, chosen, control.cancel)


def _steer(request: HttpRequest, chosen: QuerySet[Backfill], change: Callable[..., Backfill]) -> None:
    for backfill in chosen:
        try:
            now = change(backfill.pk, actor=request.user.get_username())
        except RecentWorkflowsError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Backfill {backfill.pk} is {now.status} now.")
