"""The table in Django's admin, read-only: search by key, what waits, and what is wrong.

Built for a table of any size: see ``admin_search``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.admin.options import ShowFacets
from django.contrib.admin.utils import quote
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.db import DatabaseError, InterfaceError, connections, transaction
from django.db.models import Model, QuerySet, TextField
from django.db.models.functions import Cast
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import is_aware, localtime

from workflows_tasks import conf, history, keys
from workflows_tasks.admin_base import ReadOnlyAdmin
from workflows_tasks.admin_search import BoundedPaginator, ByKey, Rows
from workflows_tasks.comparison.compare import DRIFT
from workflows_tasks.comparison.verified import Verified
from workflows_tasks.host import host, storage_field
from workflows_tasks.models import WorkspaceRecentWorkflow
from workflows_tasks.monitoring import health
from workflows_tasks.monitoring.status import age, counted, status
from workflows_tasks.monitoring.telemetry import printable
from workflows_tasks.projection import changes
from workflows_tasks.projection.fragments import compose
from workflows_tasks.projection.ranges import Range
from workflows_tasks.rechecks import recheck
from workflows_tasks.sql import Sql, rows

MOST_CHOSEN: Final = 1_000
"""Rows that an action takes."""

MOST_WORKSPACES: Final = 10
"""Workspaces that one "verify" compares."""

MOST_RUNS: Final = 100_000
"""Runs of a workspace that is compared while somebody waits for the page."""

MOST_TOLD: Final = 20
"""Differences that are listed one by one."""

MOST_COUNTED: Final = 10_000
"""Changes of one workspace that are counted."""

COLUMNS: Final = {"workspace": "workspace_id", "user": "uid", "workflow": "published_run_id"}
"""Columns of a row whose keys are shown with a name."""


@admin.register(WorkspaceRecentWorkflow)
class WorkspaceRecentWorkflowAdmin(ReadOnlyAdmin):
    """Who may view recent workflows may compare them; who may change them may have them looked at by a flush."""

    list_display = ("workspace_key", "user", "workflow_key", "used_at", "run_key", "state")
    list_display_links = ("used_at",)
    list_filter = (ByKey,)
    list_per_page = 50
    list_max_show_all = 0
    ordering = ("workspace_id", "uid", "-day", "-last_used_at", "-last_run_id")
    sortable_by = ()
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    paginator = BoundedPaginator
    actions = ("verify", "recheck")
    fields = readonly_fields = list_display

    class Media:
        css: ClassVar = {"all": ("workflows_tasks/admin.css",)}

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_recheck_permission(request)

    def has_recheck_permission(self, request: HttpRequest) -> bool:
        return self.may_change(request)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Nothing but the search by key: an address could name a condition that reads the whole table."""
        return lookup in ByKey.names

    def get_queryset(self, request: HttpRequest) -> Rows:
        """Read rows from the primary: a replica lags, so its rows would seem to differ from the runs. Read moments as
        text: PostgreSQL stores some that Python cannot hold."""
        listed: Rows = super().get_queryset(request).using(host().database)
        with_text: Rows = listed.defer("last_used_at", "day").annotate(used_at_text=Cast("last_used_at", TextField()))
        return with_text

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        row = super().get_object(request, object_id, from_field)
        _complete([row] if row else [])
        return row

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The page's rows, completed by one query for each thing that is shown beside them."""
        page: Any = super().get_changelist_instance(request)
        page.result_list = list(page.result_list)
        _complete(page.result_list)
        return page

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"pipeline": _pipeline(), **(extra_context or {})})

    @admin.display(description="Workspace")
    def workspace_key(self, row: Any) -> str:
        return self._link(row.workspace_id, host().workspace, row.names["workspace"])

    @admin.display(description="User")
    def user(self, row: Any) -> str:
        return self._link(row.uid, host().user, row.names["user"]) if row.uid else "anybody"

    @admin.display(description="Workflow")
    def workflow_key(self, row: Any) -> str:
        return self._link(row.published_run_id, host().workflow, row.names["workflow"])

    @admin.display(description="Last used")
    def used_at(self, row: Any) -> str:
        """To the second, and as people say it; the tooltip has microseconds."""
        moment = parse_datetime(row.used_at_text)
        if moment is None:  # PostgreSQL's own: infinity, years that Python does not have
            return str(row.used_at_text)
        local = localtime(moment) if is_aware(moment) else moment
        return format_html(
            '<time title="{}">{} <span class="quiet">{}</span></time>',
            f"{local:%Y-%m-%d %H:%M:%S.%f %Z}", f"{local:%Y-%m-%d %H:%M:%S}", naturaltime(moment),
        )  # fmt: skip

    @admin.display(description="Last run")
    def run_key(self, row: Any) -> str:
        return self._link(row.last_run_id, WorkspaceRecentWorkflow._meta.get_field("last_run"), None)

    @admin.display(description="State")
    def state(self, row: Any) -> str:
        """Whether changes of its workspace wait: the row may be about to change."""
        if row.waiting is None:
            return _badge("fails", "unknown: the change log cannot be read")
        pending, oldest_s, refused = row.waiting
        if refused:
            return _badge("fails", f"{counted(refused, 'change')} of its workspace in quarantine")
        if pending:
            return _badge("waits", f"{counted(pending, 'change')} of its workspace waiting for {age(oldest_s)}")
        return _badge("ok", "nothing waits")

    def _link(self, key: Any, field: Any, name: str | None) -> str:
        """A key and its name, with a link to the host's own admin page. What a key names may be gone."""
        shown = format_html('{} <span class="quiet">{}</span>', name, key) if name else str(key)
        model = field.related_model
        if not model or not field.target_field.primary_key or not self.admin_site.is_registered(model):
            return shown
        page = f"{self.admin_site.name}:{model._meta.app_label}_{model._meta.model_name}_change"
        return format_html('<a href="{}">{}</a>', reverse(page, args=[quote(key)]), shown)

    @admin.action(description="Verify the workspaces of the chosen rows", permissions=["view"])
    def verify(self, request: HttpRequest, queryset: Rows) -> None:
        """Compare whole workspaces with their runs; nothing is repaired."""
        names = list(dict.fromkeys(history.workspace_text(row.workspace_id) for row in self._chosen(request, queryset)))
        if len(names) > MOST_WORKSPACES:
            messages.error(request, f"These are rows of {len(names)} workspaces; choose at most {MOST_WORKSPACES}.")
            return
        for name in names:
            if history.runs_of(Range(first=name, last=name)) <= MOST_RUNS:
                _tell_verified(request, name)
            else:
                command = f"manage.py recent_workflows verify --workspaces {name}..{name}"
                messages.warning(request, f"Workspace {name} has more than {MOST_RUNS:,} runs. Run: {command}")

    @admin.action(description="Look at the chosen rows again", permissions=["recheck"])
    def recheck(self, request: HttpRequest, queryset: Rows) -> None:
        """Have the next flush look at the rows, as if their runs had just been saved."""
        chosen = self._chosen(request, queryset)
        if chosen:
            logged = recheck({row.last_run_id for row in chosen})
            messages.success(request, f"Logged {counted(logged, 'change')}; the next flush looks at their rows.")

    def _chosen(self, request: HttpRequest, queryset: Rows) -> Sequence[WorkspaceRecentWorkflow]:
        """The chosen rows; none if they are too many. For "select all" the admin passes the whole table."""
        chosen = list(queryset[: MOST_CHOSEN + 1])
        if len(chosen) > MOST_CHOSEN:
            messages.error(request, f"These are more than {MOST_CHOSEN:,} rows; search for fewer.")
            return []
        return chosen


def _badge(state: str, text: str) -> SafeString:
    return format_html('<span class="recent-workflows-{}">{}</span>', state, text)


def _pipeline() -> dict[str, Any]:
    """What stands above the list: what is wrong and why, and figures."""
    now = _or_none(status)
    wrong = [finding for finding in health.look() if finding.state != health.OK]
    if now is None:
        return {"findings": wrong}
    visible = None if now.visible_is_past else (age(now.visible_s(0.50)), age(now.visible_s(0.99)))
    return {"findings": wrong, "now": now, "oldest": age(now.oldest_s), "visible": visible}


def _tell_verified(request: HttpRequest, workspace: str) -> None:
    seen = Verified(MOST_TOLD)
    for part in history.parts(Range(first=workspace, last=workspace)):
        seen.add(part)
    tell = messages.warning if seen.counts[DRIFT] else messages.error if seen.failures else messages.success
    tell(request, f"Workspace {workspace}: {'; '.join([*seen.failures, *seen.sentences()])}.")
    for each in seen.first:
        if each.state == DRIFT:
            whose = f"user {each.uid}" if each.uid else "anybody"
            stored, true = _use(each.stored_run, each.stored_used_at), _use(each.run, each.used_at)
            what = f"workflow {each.workflow} by {whose} is {each.kind}: stored {stored}, true {true}."
            messages.warning(request, f"Workspace {workspace}, {what}")


def _use(run: str | None, used_at: str | None) -> str:
    return "none" if run is None else f"run {run} at {used_at}"


def _complete(listed: Sequence[Any]) -> None:
    """Give rows the names of what they name, and what waits in their workspaces: one query for each, for a page."""
    names = {name: _names(getattr(host(), name), {getattr(row, COLUMNS[name]) for row in listed}) for name in COLUMNS}
    texts = {key: history.workspace_text(key) for key in {row.workspace_id for row in listed}}
    waiting = _or_none(lambda: _waiting(list(texts.values())))
    for row in listed:
        row.names = {name: names[name].get(getattr(row, COLUMNS[name])) for name in COLUMNS}
        row.waiting = None if waiting is None else waiting.get(texts[row.workspace_id], (0, None, 0))


def _or_none(read: Callable[[], Any]) -> Any:
    """What is read; None if one of our tables is missing. A savepoint, because the request may be a transaction."""
    try:
        with transaction.atomic(using=host().database):
            return read()
    except (DatabaseError, InterfaceError):
        return None


class _NotCheap(Exception):
    """A model's ``__str__`` asked the database."""


def _refuse(*_: Any) -> Any:
    raise _NotCheap


def _names(field: Any, of: set[Any]) -> dict[Any, str]:
    """Names by key, in one query. What is gone has none.

    ``__str__`` is the host's code. If it queries the database, it would do so for each row: no names are shown then.
    """
    if field.remote_field is None:
        return {}
    target, named = field.target_field, {}
    by_value = {storage_field(field).to_python(key): key for key in of if key != ""}
    using = connections[host().database]
    instances = QuerySet(field.related_model).using(using.alias).filter(**{f"{target.attname}__in": list(by_value)})
    for instance in instances:
        try:
            with using.execute_wrapper(_refuse):
                named[by_value[getattr(instance, target.attname)]] = printable(str(instance))
        except Exception:  # whatever the host's __str__ raises: the key alone is shown then
            return {}
    return named


def _waiting(workspaces: list[str]) -> dict[str, tuple[int, float | None, int]]:
    """What waits in the change log of each workspace: changes, the oldest's age, changes in quarantine."""
    statement = compose(
        """SELECT workspace, count(*) FILTER (WHERE {takeable}),
            extract(epoch FROM clock_timestamp() - min(at) FILTER (WHERE {takeable}))::float8,
            count(*) FILTER (WHERE error IS NOT NULL)
        FROM unnest({workspaces}, {shards}) AS asked(workspace, shard) CROSS JOIN LATERAL (
            SELECT at, retry_at, error FROM {log} AS change
            WHERE change.shard = asked.shard AND change.workspace = asked.workspace LIMIT {most}
        ) AS change GROUP BY workspace""",
        takeable=changes.TAKEABLE, most=MOST_COUNTED,
        workspaces=Sql("%s::text[]", (workspaces,)),
        shards=Sql("%s::int[]", ([keys.shard_of(each, conf.settings().shards) for each in workspaces],)),
    )  # fmt: skip
    return {workspace: (pending, oldest_s, refused) for workspace, pending, oldest_s, refused in rows(statement)}
