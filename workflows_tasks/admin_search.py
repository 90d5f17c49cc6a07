"""Search by key in a table of any size: an index finds what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from workflows_tasks import keys
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.host import host, storage_field
from workflows_tasks.models import WorkspaceRecentWorkflow

MOST_COUNTED: Final = 10_000
"""Rows that a list counts and pages through. To find one among more, search by its key."""

Rows = QuerySet[WorkspaceRecentWorkflow]

if TYPE_CHECKING:  # Django's own classes take no parameter
    RowsPaginator = Paginator[WorkspaceRecentWorkflow]
else:
    RowsPaginator = Paginator


class BoundedPaginator(RowsPaginator):
    """Pages over the first ``MOST_COUNTED`` rows: counting and skipping cost as much as the rows they pass."""

    @cached_property
    def count(self) -> int:
        listed: Any = self.object_list
        return int(listed.values("pk")[:MOST_COUNTED].count())  # in the list's order: the same index answers both


class ByKey(admin.ListFilter):
    """Search by exact keys. An index leads to a workspace and to a run; users and workflows are searched within one."""

    title = "key"
    template = "admin/workflows_tasks/by_key.html"
    names: ClassVar = ("workspace", "user", "workflow", "run")
    most = MOST_COUNTED

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
            matching: Rows = queryset.filter(**self._conditions())
        except InvalidArgument as error:
            messages.error(request, str(error))
            matching = queryset.none()
        return matching

    def _conditions(self) -> dict[str, Any]:
        if self.given and not {"workspace", "run"} & set(self.given):
            name = next(iter(self.given))
            raise InvalidArgument(f"No index leads to a {name} alone: give the workspace, too.")
        the_host = host()
        fields = {"workspace": the_host.workspace, "workflow": the_host.workflow, "run": the_host.run_key}
        columns = {"workspace": "workspace_id", "workflow": "published_run_id", "run": "last_run_id"}
        conditions = {
            columns[name]: _value(fields[name], name, text) for name, text in self.given.items() if name in columns
        }
        return conditions | ({"uid": self.given["user"]} if "user" in self.given else {})


def _value(field: Any, name: str, text: str) -> Any:
    try:
        value = storage_field(field).to_python(text)
        storage_field(field).run_validators(value)
    except keys.BAD_VALUE as error:
        raise InvalidArgument(f"{name} is {text!r}, no key of a {name}.") from error
    return keys.given(field, value, name)
