"""What is in the inbox, as text: run ids, and scopes.

A scope stands for runs that cannot be named when they change: a deleted version took its runs out of a workflow by one
UPDATE, in all workspaces. The flush finds them, in the worker, from what the table and the runs say then.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db.models import Field
from django.db.models.constants import LOOKUP_SEP

from workflows_tasks.host import host, storage_field

MARK: Final = "\0"
"""First character of a scope. No run id has it: PostgreSQL's text cannot."""

ROWS: Final = "rows"
"""Rows of a workspace or workflow that are not true any more: something left."""

RUNS: Final = "runs"
"""Runs reached by a lookup that are newer than their row: something came."""

BAD_TEXT: Final = (ValidationError, ValueError, TypeError, ArithmeticError)
"""What decoding text that is no key raises, by the type of the key."""


@dataclass(frozen=True, slots=True)
class Scope:
    """``part`` of what ``lookup`` (the workspace field, or the path up to a hop) says is ``key``, for one shard."""

    part: str
    lookup: str
    key: Any

    def text(self, shard: int) -> str:
        """The scope as it waits in a shard's inbox."""
        return f"{MARK}{self.part}:{shard}:{self.lookup}:{as_text(_field(self.lookup), self.key)}"

    @classmethod
    def from_text(cls, text: str) -> Scope:
        """The scope that ``text`` was made of.

        Raises:
            ValueError, ValidationError: it is none; what is in Redis is not trusted.
        """
        part, _, lookup, key = text.removeprefix(MARK).split(":", 3)
        if part not in {ROWS, RUNS} or (part == ROWS and lookup not in {host().workspace.name, host().path_lookup}):
            raise ValueError(f"no scope: {part}:{lookup}")
        return cls(part, lookup, _field(lookup).to_python(storable(key)))


def is_scope(text: str) -> bool:
    return text.startswith(MARK)


def encode(pk: Any) -> str:
    """A run's primary key as text."""
    return as_text(host().run_key, pk)


def decode(text: str) -> Any:
    """The primary key that ``encode`` made text of.

    Raises:
        ValueError, ValidationError: it is none; what is in Redis is not trusted.
    """
    return host().run_key.to_python(storable(text))


def storable(text: str) -> str:
    """``text``, if PostgreSQL can store it.

    Raises:
        ValueError: it has a NUL, or bytes that are no UTF-8.
    """
    if MARK in text:
        raise ValueError("it has a NUL character")
    text.encode()
    return text


def as_text(field: Field[Any, Any], key: Any) -> str:
    """A key as Django's serializers write it, for any type of key."""
    if type(key) in (int, str):
        return str(key)
    row: Any = SimpleNamespace(**{field.attname: field.to_python(key)})
    return str(field.value_to_string(row))


def _field(lookup: str) -> Field[Any, Any]:
    found = host()
    prefixes = {LOOKUP_SEP.join(hop.name for hop in found.path[: n + 1]): hop for n, hop in enumerate(found.path)}
    field = {found.workspace.name: found.workspace, **prefixes}.get(lookup)
    if field is None:
        raise ValueError(f"no way to a run: {lookup}")
    return storage_field(field)
