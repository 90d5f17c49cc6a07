"""The host's tables whose writes are captured, and the parts they play."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP

from workflows_tasks.host import Host


@dataclass(frozen=True, slots=True)
class RunPart:
    """What a table holds of the run itself."""

    key: str
    workspace: str | None
    """Column of the workspace; None if another table of a multi-table model has it."""
    columns: tuple[str, ...]
    """Columns whose change may change a row of ours."""


@dataclass(frozen=True, slots=True)
class ScopePart:
    """What a table holds of the way from runs to their workflow, or of what ``RUN_FILTER`` reads."""

    lookup: str
    key: str | None
    """Column that the last foreign key of ``lookup`` points to; None where this table does not have it."""
    is_workspace: bool
    columns: tuple[str, ...]


@dataclass(slots=True)
class Table:
    """A table of the host's, and the parts it plays."""

    name: str
    """As Django has it: not quoted."""
    run: RunPart | None = None
    scopes: list[ScopePart] = field(default_factory=list)

    @property
    def function(self) -> str:
        """Name of its function."""
        digest = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return f"recent_workflows_{re.sub(r'[^a-z0-9]+', '_', self.name.lower())[:30]}_{digest}"

    @property
    def columns(self) -> list[str]:
        """Every column that its function reads."""
        parts: list[RunPart | ScopePart] = [*([self.run] if self.run else []), *self.scopes]
        read = [column for part in parts for column in (part.key, *part.columns) if column]
        return list(dict.fromkeys(read))


def tables(the_host: Host) -> list[Table]:
    """Every table whose writes can change a row of ours."""
    by_name: dict[str, Table] = {}
    reads = [(prefix, each) for prefix, each in the_host.filter_reads.fields]
    of_run = [
        the_host.workspace,
        the_host.user,
        the_host.path[0],
        the_host.used_at,
        *(each for prefix, each in reads if not prefix),
    ]
    for model in _own_tables(the_host.run, of_run):
        columns = sorted({each.column for each in of_run if _table(each.model) == _table(model)})
        workspace = the_host.workspace.column if _table(the_host.workspace.model) == _table(model) else None
        key = model._meta.pk.column
        by_name[_table(model)] = Table(_table(model), run=RunPart(str(key), workspace, tuple(columns)))
    path = the_host.path
    ways = [(LOOKUP_SEP.join(hop.name for hop in path[:n]), path[n]) for n in range(1, len(path))]
    by_part: dict[tuple[str, str], set[str]] = {}
    for lookup, each in [*ways, *((prefix, each) for prefix, each in reads if prefix)]:
        by_part.setdefault((_table(each.model), lookup), set()).add(str(each.column))
    for (name, lookup), columns_read in sorted(by_part.items()):
        target: Any = the_host.lookup_field(lookup).target_field  # type: ignore[attr-defined]
        key = _key_in(name, target)
        part = ScopePart(lookup, key, lookup == the_host.workspace.name, tuple(sorted(columns_read)))
        by_name.setdefault(name, Table(name)).scopes.append(part)
    return list(by_name.values())


def _own_tables(run: type[Model], fields: Sequence[Any]) -> Iterator[type[Model]]:
    """The run's own model, and those multi-table parents that hold a column we read."""
    yield run
    for parent in run._meta.get_parent_list():
        if any(each.model is parent for each in fields):
            yield parent


def _table(model: type[Model]) -> str:
    return str(model._meta.db_table)


def _key_in(table: str, target: Any) -> str | None:
    """The column of ``table`` that has the value of ``target``: itself, or a multi-table parent's own key."""
    if _table(target.model) == table:
        return str(target.column)
    for parent in target.model._meta.get_parent_list():
        if target.primary_key and _table(parent) == table:
            return str(parent._meta.pk.column)
    return None
