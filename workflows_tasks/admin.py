"""The table in Django's admin: to look at and search by key, with what waits in the inbox; nothing can be edited.

Built for a table of any size: what is asked for is found by an index, and no list counts past ``MOST_COUNTED`` rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.admin.options import ShowFacets
from django.contrib.admin.utils import quote
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.timezone import is_aware, localtime

from workflows_tasks import inbox, operations, reads, repair, truth
from workflows_tasks.announcements import announce
from workflows_tasks.errors import InboxUnavailable, InvalidArgument
from workflows_tasks.host import host, storage_field
from workflows_tasks.ids import BAD_TEXT, encode, storable
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.readonly import LookedAt
from workflows_tasks.sql.fragments import Workspaces
from workflows_tasks.sql.writes import heavy_workspaces

MOST_COUNTED: Final = 10_000
"""Rows that a list counts and pages through. Who looks for one among more has a key to search by."""

MOST_OF_WORKFLOW: Final = 1_000
"""Rows of a workflow that are listed, unless a workspace is given, too."""

MOST_CHOSEN: Final = 1_000
"""Rows that an action takes."""

MOST_WORKSPACES: Final = 10
"""Workspaces that one "verify" compares."""

MOST_RUNS: Final = 100_000
"""Runs of a workspace that is compared while somebody waits for the page."""

MOST_TOLD: Final = 20
"""Differences that are told one by one."""

Rows = QuerySet[WorkspaceRecentWorkflow]

if TYPE_CHECKING:  # Django's own classes take no parameter
    ModelAdmin = admin.ModelAdmin[WorkspaceRecentWorkflow]
    RowsPaginator = Paginator[WorkspaceRecentWorkflow]
else:
    ModelAdmin, RowsPaginator = admin.ModelAdmin, Paginator


class BoundedPaginator(RowsPaginator):
    """Pages over the first ``MOST_COUNTED`` rows: counting and skipping cost as much as the rows they pass."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.values("pk")[:MOST_COUNTED].count())  # in the list's order: the same index answers both


class ByKey(admin.ListFilter):
    """Search by exact keys, each of which an index leads to; a user is looked for in a workspace."""

    title = "key"
    template = "admin/workflows_tasks/by_key.html"
    names: ClassVar = ("workspace", "user", "workflow", "run")
    most = MOST_COUNTED
    most_of_workflow = MOST_OF_WORKFLOW

    def __init__(
        self, request: HttpRequest, params: dict[str, Any], model: type[Model], model_admin: admin.ModelAdmin[Any]
    ) -> None:
        super().__init__(request, params, model, model_admin)
        given = {name: params.pop(name, [""])[-1].strip() for name in self.names}
        self.given = {name: text for name, text in given.items() if text}

    def expected_parameters(self) -> list[str | None]:
        return list(self.names)

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """The fields of the form."""
        for name in self.names:
            yield {"name": name, "value": self.given.get(name, "")}

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        try:
            return self._search(queryset, **self.given)
        except InvalidArgument as error:
            messages.error(request, str(error))
            nothing: Rows = queryset.none()
            return nothing

    def _search(self, rows: Rows, *, workspace: str = "", user: str = "", workflow: str = "", run: str = "") -> Rows:
        if run:
            rows = rows.filter(last_run_id=_value("run", run))
        if workspace:
            key, uid = reads.key_of(_storable("workspace", workspace), _storable("user", user) if user else None)
            rows = rows.filter(workspace_id=key, **({"uid": uid} if user else {}))
        elif user:
            raise InvalidArgument("No index leads to a user alone: give the workspace, too.")
        if workflow:
            rows = rows.filter(published_run_id=_value("workflow", workflow))
            if not workspace and not run:
                # A popular workflow has millions of rows, and no index has them in this list's order.
                rows = rows.filter(pk__in=list(rows.order_by().values_list("pk", flat=True)[:MOST_OF_WORKFLOW]))
        return rows


def _value(name: str, text: str) -> Any:
    field = host().run_key if name == "run" else storage_field(host().workflow)
    try:
        value = field.to_python(storable(text))
        field.run_validators(value)
    except BAD_TEXT as error:
        raise InvalidArgument(f"{name} is {text!r}, no key of a {name}.") from error
    return value


def _storable(name: str, text: str) -> str:
    try:
        return storable(text)
    except BAD_TEXT as error:
        raise InvalidArgument(f"{name} is {text!r}, no key of a {name}.") from error


@admin.register(WorkspaceRecentWorkflow)
class WorkspaceRecentWorkflowAdmin(LookedAt, ModelAdmin):
    """Who may view recent workflows may compare them; who may change them may have them looked at by a flush."""

    list_display = ("workspace_key", "user", "workflow_key", "used_at", "run_key")
    list_display_links = ("used_at",)
    list_filter = (ByKey,)
    list_per_page = 50
    list_max_show_all = 0
    ordering = ("workspace_id", "uid", "-last_used_at", "-last_run_id")
    sortable_by = ()
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    paginator = BoundedPaginator
    actions = ("verify", "announce")
    fields = readonly_fields = ("workspace_key", "user", "workflow_key", "used_at", "run_key", "inbox_place")

    class Media:
        css: ClassVar = {"all": ("workflows_tasks/admin.css",)}

    def has_view_permission(self, request: HttpRequest, obj: WorkspaceRecentWorkflow | None = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_announce_permission(request)

    def has_announce_permission(self, request: HttpRequest) -> bool:
        return self.may_change(request)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Nothing but the search by key: an address could name a condition that reads the whole table."""
        return lookup in ByKey.names

    def get_queryset(self, request: HttpRequest) -> Rows:
        """From the primary: a replica lags, and what is compared with it would differ."""
        rows: Rows = super().get_queryset(request).using(host().database)
        return rows

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"pipeline": _pipeline(), **(extra_context or {})})

    @admin.display(description="Workspace")
    def workspace_key(self, row: WorkspaceRecentWorkflow) -> str:
        return self._link(row, "workspace", host().workspace)

    @admin.display(description="User")
    def user(self, row: WorkspaceRecentWorkflow) -> str:
        return row.uid or "anybody"

    @admin.display(description="Workflow")
    def workflow_key(self, row: WorkspaceRecentWorkflow) -> str:
        return self._link(row, "published_run", host().workflow)

    @admin.display(description="Last used")
    def used_at(self, row: WorkspaceRecentWorkflow) -> str:
        return _moment(row.last_used_at)

    @admin.display(description="Last run")
    def run_key(self, row: WorkspaceRecentWorkflow) -> str:
        return self._link(row, "last_run", WorkspaceRecentWorkflow._meta.get_field("last_run"))

    @admin.display(description="In the inbox")
    def inbox_place(self, row: WorkspaceRecentWorkflow) -> str:
        """Whether its run is on its way: then a flush is about to look at it."""
        try:
            place = inbox.where_is([encode(row.last_run_id)]).get(encode(row.last_run_id))
        except InboxUnavailable as error:
            return str(error)
        return place or "no; a newer run of its key may be"

    def _link(self, row: WorkspaceRecentWorkflow, name: str, field: Any) -> str:
        """The key, with a link to the host's own admin page. What it names is not read: it may be gone, or huge."""
        key = getattr(row, f"{name}_id")
        model = field.related_model
        if not field.target_field.primary_key or not self.admin_site.is_registered(model):
            return str(key)
        page = f"{self.admin_site.name}:{model._meta.app_label}_{model._meta.model_name}_change"
        return format_html('<a href="{}">{}</a>', reverse(page, args=[quote(key)]), key)

    @admin.action(description="Verify the workspaces of the chosen rows", permissions=["view"])
    def verify(self, request: HttpRequest, queryset: Rows) -> None:
        """Compare whole workspaces with their runs; nothing is repaired."""
        keys = list(dict.fromkeys(row.workspace_id for row in self._chosen(request, queryset)))
        if len(keys) > MOST_WORKSPACES:
            messages.error(request, f"These are rows of {len(keys)} workspaces; choose at most {MOST_WORKSPACES}.")
            return
        heavy = {keys[position] for (position,) in truth.rows(heavy_workspaces(keys, MOST_RUNS))} if keys else set()
        for key in keys:
            if key in heavy:
                messages.warning(
                    request,
                    f"Workspace {key} has more than {MOST_RUNS:,} runs. Verify it on a terminal: "
                    f"manage.py recent_workflows verify --workspaces {key}..{key}",
                )
            else:
                self._tell(request, key)

    def _tell(self, request: HttpRequest, key: Any) -> None:
        try:
            drift = [row for checked in repair.check(Workspaces(key, key)) for row in checked.drift]
        except InboxUnavailable as error:
            messages.error(request, f"Workspace {key} was not compared: what waits cannot be told apart. {error}")
            return
        if not drift:
            messages.success(request, f"Workspace {key}: table and runs agree.")
        for row in drift[:MOST_TOLD]:
            whose = f"user {row.uid}" if row.uid else "anybody"
            stored, true = _use(row.stored_run, row.stored_used_at), _use(row.run, row.used_at)
            messages.warning(
                request,
                f"Workspace {key}, workflow {row.workflow} by {whose} is {row.kind}: stored {stored}, true {true}.",
            )
        if len(drift) > MOST_TOLD:
            messages.warning(request, f"Workspace {key}: {len(drift) - MOST_TOLD} more differences.")

    @admin.action(description="Announce the runs of the chosen rows", permissions=["announce"])
    def announce(self, request: HttpRequest, queryset: Rows) -> None:
        """Have the next flush look at the rows, as if their runs had just been saved."""
        rows = self._chosen(request, queryset)
        try:
            inbox.status()
        except InboxUnavailable as error:
            messages.error(request, f"Nothing was announced. {error}")
            return
        announced = announce({row.last_run_id for row in rows}, using=host().database) if rows else 0
        if announced:
            messages.success(request, f"Runs announced: {announced}. The next flush looks at their rows.")

    def _chosen(self, request: HttpRequest, queryset: Rows) -> Sequence[WorkspaceRecentWorkflow]:
        """The chosen rows, or none where "all" are too many: the admin then passes the whole table."""
        rows = list(queryset[: MOST_CHOSEN + 1])
        if len(rows) > MOST_CHOSEN:
            messages.error(request, f"These are more than {MOST_CHOSEN:,} rows; search for fewer.")
            return []
        return rows


def _pipeline() -> operations.Status | str:
    """What stands above the list; or why it cannot be told."""
    try:
        return operations.status(exactly=False)
    except InboxUnavailable as error:
        return str(error)


def _use(run: Any, used_at: Any) -> str:
    return "none" if run is None else f"run {run} at {_moment(used_at)}"


def _moment(used_at: datetime) -> str:
    """To the microsecond: two uses of a busy workflow differ by little."""
    return f"{localtime(used_at) if is_aware(used_at) else used_at:%Y-%m-%d %H:%M:%S.%f}"
