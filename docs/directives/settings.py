"""``{settings}``: every key of ``RECENT_WORKFLOWS``, from the fields of ``workflows_tasks.conf.Settings``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from django.db.models import Q
from docutils.parsers.rst import directives

from docs.directives.written import Written, entry
from workflows_tasks.conf import Settings


class SettingsReference(Written):
    """``:required:`` shows the keys without a default, otherwise those with one."""

    option_spec = {"required": directives.flag}

    def markdown(self) -> Iterable[str]:
        meanings = docstrings()
        for field in fields(Settings):
            if (field.default is MISSING) == ("required" in self.options):
                yield from entry("setting", field.name, _title(field), meanings[field.name])


def docstrings() -> dict[str, str]:
    """What stands below each field; Python itself does not keep it."""
    (cls,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(cls, ast.ClassDef)
    return dict(_documented(cls))


def _documented(cls: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(cls.body, cls.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            assert isinstance(below.value, ast.Constant)
            yield field.target.id, inspect.cleandoc(str(below.value.value))


def _title(field: Field[Any]) -> str:
    unit = (
        "seconds" if field.name.endswith("_s") else str(field.type).removesuffix(", ...]").replace("tuple[", "list of ")
    )
    return f"`{field.name.upper()}` · {unit}{_default(field.default)}"


def _default(value: Any) -> str:
    if value is MISSING:
        return ""
    if value == Q():
        return " · all runs"
    if value in (None, (), ""):
        return " · none"
    if isinstance(value, str):
        return f" · `{value}`"
    if isinstance(value, tuple):
        return f" · {', '.join(value)}"
    return f" · {value:,g}"
