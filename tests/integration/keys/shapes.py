"""Shapes of hosts, and the source of their models.

A key type is a field's declaration and the values that keys of it take. Unusual fields are in ``FIELDS``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

FIELDS: Final = '''
import uuid

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Func, Q
from django.db.models.functions import Now


class NewUuid(Func):
    arity = 0
    output_field = models.UUIDField()

    def as_sql(self, compiler, connection, **context):
        function = "uuidv7" if connection.pg_version >= 180_000 else "gen_random_uuid"
        return super().as_sql(compiler, connection, function=function, **context)


class Padded(models.CharField):
    """char(8): PostgreSQL pads it with blanks, and compares without them."""

    def db_type(self, connection):
        return "char(8)"

    rel_db_type = db_type


class Local(models.DateTimeField):
    """timestamp: as the clock on the wall shows it."""

    def db_type(self, connection):
        return "timestamp"


class Prefixed(models.BigIntegerField):
    """7 in the database, ws_7 in Python, as prefixed and hashed ids are."""

    PREFIX = "id_"

    def from_db_value(self, value, *_):
        return None if value is None else f"{self.PREFIX}{value}"

    def to_python(self, value):
        if value is None or (isinstance(value, str) and value.startswith(self.PREFIX)):
            return value
        if isinstance(value, int):
            return f"{self.PREFIX}{value}"
        raise ValidationError("not one of ours")

    def get_prep_value(self, value):
        if isinstance(value, str) and value.startswith(self.PREFIX):
            value = value[len(self.PREFIX):]
        return None if value is None else int(value)

    @property
    def validators(self):
        return []
'''


@dataclass(frozen=True)
class Key:
    """A type of key."""

    declaration: str
    """Of the field, with ``{}`` for its other arguments."""
    value: Callable[[int], Any]
    """The n-th key, as Python has it."""
    text: Callable[[Any], str] = str
    """How somebody writes it into a URL."""


TEXTS: Final = (
    "Zoë “key” 100 %",
    "anna",
    "Anna",
    "50%",
    "a-b..c",
    "two\nlines",
    'o\'neil "q" \\',
    "%s",
    "null",
    "-",
    "~Z",
)

KEYS: Final[Mapping[str, Key]] = {
    "bigint": Key("models.BigIntegerField({})", lambda n: n * 10**17 - 3),
    "smallint": Key("models.SmallIntegerField({})", lambda n: n - 3),
    "text": Key("models.CharField(max_length=60{})", lambda n: f"{TEXTS[n % len(TEXTS)]}{n // len(TEXTS) or ''}"),
    "text by its bytes": Key(
        "models.CharField(max_length=60, db_collation='C'{})", lambda n: "aBcDéÉzZbC"[n % 10] * (1 + n // 10)
    ),
    "unbounded text": Key("models.TextField({})", lambda n: f"{TEXTS[-n % len(TEXTS)]}{n}"),
    "email": Key("models.EmailField({})", lambda n: f"Ann.O'Neil+{n}@Example.org"),
    "uuid": Key("models.UUIDField({})", lambda n: UUID(int=(n * 2**125 + n) % 2**128)),
    "decimal": Key(
        "models.DecimalField(max_digits=8, decimal_places=2{})",
        lambda n: Decimal(("2.5", "-0.1", "7", "10.25")[n % 4]) + n,
    ),
    "whole decimal": Key("models.DecimalField(max_digits=30, decimal_places=0{})", lambda n: Decimal(10**29 - n)),
    "date": Key("models.DateField({})", lambda n: date(999, 12, 30) + timedelta(days=n * n)),
    "inet": Key("models.GenericIPAddressField({})", lambda n: f"10.0.0.{n}" if n % 2 else f"2001:db8::{n + 1:x}"),
    "padded": Key("Padded(max_length=8{})", lambda n: ("ab", "AB", "a b", "Ab")[n % 4] + str(n // 4 or "")),
    "prefixed": Key("Prefixed({})", lambda n: f"id_{n + 1}"),
    "text in any case": Key("models.CharField(max_length=60, db_collation='any_case'{})", lambda n: f"Key {n}"),
}

REFUSED: Final = {"text in any case"}
"""Of which two spellings are equal."""

ANY_CASE: Final = "CREATE COLLATION any_case (provider = icu, deterministic = false, locale = 'und-u-ks-level2')"

USED_AT: Final[Mapping[str, str]] = {
    "plain": "used_at = models.DateTimeField(null=True)",
    "of the clock on the wall": "used_at = Local(null=True)",
    "generated": "began = models.DateTimeField(null=True)\n    used_at = models.GeneratedField("
    "expression=models.F('began'), output_field=models.DateTimeField(null=True), db_persist=True)",
}

FILTERS: Final[Mapping[str, str]] = {
    "none": "Q()",
    "a column": "Q(hidden=False)",
    "of the workspace": "Q(workspace__closed=False, hidden=False)",
    "or and not": "Q(hidden=False) | ~Q(workspace__closed=False)",
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A host."""

    run: str = "bigint"
    workspace: str = "bigint"
    workflow: str = "bigint"
    user: str = "text"
    user_is_foreign: bool = False
    hops: int = 2
    used_at: str = "plain"
    filter: str = "a column"
    is_proxied: bool = False
    """Foreign keys point to proxies, and writes go through the concrete models."""
    has_to_field: bool = False
    """The run's foreign key to its workspace points to another unique column than its primary key."""
    is_inherited: bool = False
    """The run is in two tables: workspace, moment and what the filter reads are of a parent model."""
    made_by_database: bool = False
    """The run's key, a UUID, is the database's default."""
    is_unmanaged: bool = False
    """No migration makes the tables: another program did."""
    is_partitioned: bool = False
    """The same, and the runs that are shown and those that are not are in two partitions."""
    table: str = "{}"
    """Of ``db_table``; ``{}`` is the model's name."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """``db_table`` of models that have another."""
    database: str = ""
    """Options of ``CREATE DATABASE``."""
    prepare: tuple[str, ...] = ()
    """Statements before anything is migrated."""
    other_tenants: tuple[str, ...] = ()
    """Schemas that have all tables too. Nobody writes there."""
    session: tuple[str, ...] = ()
    """Statements of the role or database, after that."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """``DATABASES[...]["OPTIONS"]``."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    grains: tuple[str, ...] = ("workspace", "user")

    @property
    def began(self) -> str:
        """The field that a program sets to say when a run was used."""
        return "began" if self.used_at == "generated" else "used_at"

    @property
    def path(self) -> str:
        return "__".join([*(f"hop{n}" for n in range(1, self.hops)), "workflow"])


def at_random(chance: random.Random) -> Shape:
    """Any shape there is."""
    types = sorted(set(KEYS) - REFUSED)
    is_inherited = chance.random() < 0.2
    return Shape(
        run=chance.choice(types), workspace=chance.choice(types),
        workflow=chance.choice(types), user=chance.choice(types), user_is_foreign=chance.random() < 0.5,
        hops=chance.choice((1, 2, 3)), used_at=chance.choice(("plain", "generated")),
        filter=chance.choice(list(FILTERS)),
        is_proxied=chance.random() < 0.3,
        has_to_field=chance.random() < 0.2, is_inherited=is_inherited,
        table=chance.choice(("{}", "Odd {}", 'odd"."{}', "select {}")),
        options=chance.choice(({}, {"server_side_binding": True}, {"prepare_threshold": 1})),
        settings=chance.choice(({}, {"USE_TZ": False, "TIME_ZONE": "America/New_York"})),
        grains=chance.choice((("workspace", "user"), ("workspace",), ("user",))),
        prepare=("CREATE SCHEMA odd",),
        is_unmanaged=chance.random() < 0.2,
        # Keys are unique in a partition only, so the other table of such runs cannot refer to them.
        is_partitioned=not is_inherited and chance.random() < 0.3,
    )  # fmt: skip


def source(shape: Shape) -> str:
    """The models module of a host of this shape."""

    def key(kind: str, more: str = "") -> str:
        declared = KEYS[kind].declaration
        given = f"primary_key=True{more}"
        return declared.format(given if "({}" in declared else f", {given}")

    def meta(name: str) -> str:
        managed = "        managed = False\n" if shape.is_unmanaged or shape.is_partitioned else ""
        return f"    class Meta:\n        db_table = {shape.tables.get(name, shape.table.format(name))!r}\n{managed}"

    def target(name: str) -> str:
        return f"{name}Proxy" if shape.is_proxied else name

    parts = [FIELDS]
    for name, kind, extra in (
        ("Workspace", shape.workspace, "    closed = models.BooleanField(default=False)\n"),
        ("Workflow", shape.workflow, ""),
        ("Person", shape.user, ""),
    ):
        column = f"id = {key(kind)}"
        if name == "Workspace" and shape.has_to_field:
            column = f"code = {key(kind).replace('primary_key', 'unique')}"
        parts.append(f"class {name}(models.Model):\n    {column}\n{extra}{meta(name)}")
        parts.append(f"class {name}Proxy({name}):\n    class Meta:\n        proxy = True\n")
    leads_to = f"    workflow = models.ForeignKey({target('Workflow')}, models.SET_NULL, null=True)\n"
    for number in range(shape.hops - 1, 0, -1):
        parts.append(f"class Hop{number}(models.Model):\n{leads_to}{meta(f'Hop{number}')}")
        leads_to = f"    hop{number} = models.ForeignKey(Hop{number}, models.SET_NULL, null=True)\n"
    more = ", db_default=NewUuid()" if shape.made_by_database else ""
    declared = KEYS[shape.user].declaration
    user = (
        f"models.ForeignKey({target('Person')}, models.SET_NULL, null=True)"
        if shape.user_is_foreign
        else declared.format("null=True" if "({}" in declared else ", null=True")
    )
    to_field = ", to_field='code'" if shape.has_to_field else ""
    of_run = (
        f"    id = {key(shape.run, more)}\n"
        f"    workspace = models.ForeignKey({target('Workspace')}, models.SET_NULL, null=True{to_field})\n"
        f"    hidden = models.BooleanField(default=False)\n    {USED_AT[shape.used_at]}\n"
    )
    base = "models.Model"
    if shape.is_inherited:
        base = "Execution"
        parts.append(f"class Execution(models.Model):\n{of_run}{meta('Execution')}")
        of_run = ""
    parts.append(f"class Run({base}):\n{of_run}    person = {user}\n{leads_to}{meta('Run')}")
    return "\n\n".join(parts)
