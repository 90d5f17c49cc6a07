"""What a filter over the run reads, so that triggers can watch it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import F, Model, Q, QuerySet, Subquery
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now


@dataclass(frozen=True)
class FilterReads:
    """What a filter over the run reads: fields, each with the lookup of foreign keys that leads to its model."""

    fields: frozenset[tuple[str, Any]]
    """``(lookup, field)``; the lookup is empty for the run's own fields."""
    unseen: tuple[str, ...]
    """Parts that cannot be followed to a column. Only the audit finds a change there."""
    clock: bool
    """It reads the time of day: runs come and go without any write."""

    @classmethod
    def of(cls, run: type[Model], q: Q) -> FilterReads:
        """Follow every name in ``q`` through the run's models."""
        fields: set[tuple[str, Any]] = set()
        unseen: list[str] = []
        clock = False
        for part in _parts(q):
            if isinstance(part, str):
                fields_read = list(_followed(run, part))
                fields.update(fields_read)
                unseen += [] if fields_read else [part]
            elif isinstance(part, Now):
                clock = True
            else:
                unseen.append(type(part).__name__)
        return cls(frozenset(fields), tuple(dict.fromkeys(unseen)), clock)


def described(node: Any) -> str:
    """A filter as text that is the same in every process. The ``repr`` of a set is not: its order differs."""
    if isinstance(node, Q):
        return f"{'not ' if node.negated else ''}{node.connector}({', '.join(map(described, node.children))})"
    if isinstance(node, set | frozenset):
        return f"{{{', '.join(sorted(map(described, node)))}}}"
    if isinstance(node, list | tuple):
        return f"({', '.join(map(described, node))})"
    return repr(node)


def _parts(node: Any) -> Iterator[Any]:
    """The names of fields, the clocks and the opaque expressions in a filter or in a value of it."""
    if isinstance(node, Q):
        for child in node.children:
            yield from _parts(child)
    elif isinstance(node, tuple) and len(node) == 2 and isinstance(node[0], str):
        yield node[0]
        yield from _parts(node[1])
    elif isinstance(node, F):
        yield node.name  # type: ignore[attr-defined]  # missing in the stubs
    elif isinstance(node, Now | Subquery | RawSQL | QuerySet):
        yield node
    elif isinstance(node, list | tuple | set | frozenset):
        for each in node:
            yield from _parts(each)
    elif hasattr(node, "get_source_expressions"):
        for each in node.get_source_expressions():
            yield from _parts(each)


def _followed(model: type[Model], lookup: str) -> Iterator[tuple[str, Any]]:
    """The columns that a lookup reads on its way; none if it passes through something that has no column."""
    prefix: list[str] = []
    columns: list[tuple[str, Any]] = []
    for name in lookup.split(LOOKUP_SEP):
        if columns and columns[-1][1].remote_field is None:
            break  # a transform, or the lookup itself
        try:
            field: Any = model._meta.pk if name == "pk" else model._meta.get_field(name)
        except FieldDoesNotExist:
            if not columns:
                return
            break
        if getattr(field, "column", None) is None:
            return
        columns.append((LOOKUP_SEP.join(prefix), field))
        prefix.append(name)
        if field.remote_field is not None:
            model = field.related_model
    yield from columns
