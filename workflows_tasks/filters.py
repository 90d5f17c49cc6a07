"""What a host's filter reads."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import BaseExpression, F


def fields_read(q: Q) -> set[str] | None:
    """The run's fields a filter reads, or None where an expression hides them."""
    names: set[str] = set()
    for child in q.children:
        if isinstance(child, Q):
            inner = fields_read(child)
            if inner is None:
                return None
            names |= inner
        elif isinstance(child, tuple) and not _has_expression(child[1]):
            names.add(child[0].split(LOOKUP_SEP)[0])
        else:
            return None
    return names


def _has_expression(value: Any) -> bool:
    """Whether a filter's value reads fields by itself: an expression, or a range or list with one in it."""
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_has_expression, value))
    return isinstance(value, BaseExpression | F)
