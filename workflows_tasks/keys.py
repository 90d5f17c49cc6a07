"""A key of the host's as text, in the way that PostgreSQL prints it. Change log, shards and ``uid`` all use this text.

SQL makes it with ``text_of``. Python makes the same text with ``as_text``, without asking the database, for the types
of column that it knows.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from functools import cache
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import connections
from django.db.models import Field, Model

from workflows_tasks import conf
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.host import host, storage_field

BAD_VALUE: Final = (ValidationError, ValueError, TypeError, ArithmeticError)
"""What a field raises for a value that is none of its own."""

_TEXT: Final = ("varchar", "text", "character varying")
_PADDED: Final = ("char(", "character(", "bpchar")
"""Types whose values PostgreSQL pads with blanks. Their text has no trailing blanks, and comparisons ignore them."""


def text_of(expression: str) -> str:
    """SQL for a key's text."""
    return f"({expression})::text"


@cache
def column_type(field: Any) -> str:
    """The SQL type to cast a key's text back to. A varchar's is ``text``: a cast to varchar cuts what is too long."""
    stored: Field[Any, Any] = storage_field(field)
    connection = connections[host().database]
    declared = stored.rel_db_type(connection) if field.remote_field else stored.db_type(connection)
    assert declared is not None
    if declared.startswith(_PADDED):
        return "bpchar"
    return "text" if declared.startswith(_TEXT) else declared


def database_value(field: Any, value: Any) -> Any:
    """A Python value of the column, or its text, as the driver takes it.

    Raises:
        InvalidArgument: it is no value of that column.
    """
    stored = storage_field(field)
    try:
        if isinstance(value, str):
            _storable(value)
        return stored.get_db_prep_value(value, connections[host().database])
    except BAD_VALUE as error:
        raise InvalidArgument(f"{value!r} is no value of {field}.") from error


def as_text(field: Any, value: Any) -> str | None:
    """The text of a Python value, worked out here; None where only PostgreSQL knows it.

    Raises:
        InvalidArgument: it is no value of that column.
    """
    return printed(field, database_value(field, value))


def printed(field: Any, prepared: Any) -> str | None:
    """Like ``as_text``, for a value that is prepared. Preparing it again could fail: its prefix may be gone."""
    kind = column_type(field)
    text: str | None = None
    if isinstance(prepared, bool):
        text = str(prepared).lower()
    elif isinstance(prepared, int) and re.match(r"(big|small)?(int|serial)", kind):
        text = str(int(prepared))
    elif kind == "uuid" and isinstance(prepared, str | UUID):
        text = str(prepared if isinstance(prepared, UUID) else UUID(prepared))
    elif kind in {"text", "bpchar"} and isinstance(prepared, str):
        text = str(prepared) if kind == "text" else prepared.rstrip(" ")
    elif scale := re.fullmatch(r"numeric\(\d+, ?(\d+)\)", kind):
        text = str(_scaled(Decimal(prepared), int(scale[1])))
    elif kind == "date" and isinstance(prepared, datetime.date):
        text = prepared.isoformat()
    return text


def _scaled(number: Decimal, scale: int) -> Decimal:
    """As PostgreSQL rounds a numeric to its column's scale, however many digits that has; there is no minus zero."""
    try:
        rounded = number.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP, context=_MOST_DIGITS)
    except InvalidOperation as error:
        raise InvalidArgument(f"{number} has more digits than any column.") from error
    return rounded or abs(rounded)


_MOST_DIGITS: Final = Context(prec=2_000)
"""A column's precision is 1,000 digits at most."""


def given(field: Any, value: Any, name: str, attribute: str | None = None) -> Any:
    """What the column holds for a model instance or a key, as the driver takes it; None for None.

    Args:
        name: what the caller calls it, for the message.
        attribute: of an instance, where the column is no foreign key.

    Raises:
        InvalidArgument: names what was given and what was expected.
    """
    if isinstance(value, Model):
        value = _key_of(field, value, name, attribute)
    if value is None:
        return None
    try:
        prepared = database_value(field, value)
        bits = _BITS.get(column_type(field))
        if bits and isinstance(prepared, int) and not -(2 ** (bits - 1)) <= prepared < 2 ** (bits - 1):
            raise InvalidArgument(f"{prepared} is out of the column's range.")
    except InvalidArgument as error:
        raise InvalidArgument(f"{name} is {value!r}, no value of {field}.") from error
    return prepared


_BITS: Final = {"smallint": 16, "integer": 32, "bigint": 64}


def _key_of(field: Any, instance: Model, name: str, attribute: str | None) -> Any:
    if field.remote_field is None and attribute is not None:
        return _attribute(instance, attribute, name)
    if field.remote_field is None or not isinstance(instance, field.related_model._meta.concrete_model):
        raise InvalidArgument(f"{name} is a {type(instance).__name__}; expected a value of {field}.")
    return getattr(instance, field.target_field.attname)


def _attribute(instance: Model, attribute: str, name: str) -> Any:
    try:
        return getattr(instance, attribute)
    except AttributeError as error:
        raise InvalidArgument(
            f"{name} is a {type(instance).__name__}, which has no attribute {attribute!r}; name the one that has its "
            f"key in {conf.NAME}['{name.upper()}_ATTRIBUTE'], or pass the key."
        ) from error


def shard_of(workspace: str, shards: int) -> int:
    """The shard of a workspace, by its text."""
    digest = hashlib.sha256(workspace.encode()).digest()
    return int.from_bytes(digest[:2], "big") % shards


def shard_sql(workspace: str, shards: str | int) -> str:
    """SQL for ``shard_of``: ``workspace`` is SQL for the workspace's text."""
    digest = f"sha256(convert_to({workspace}, 'UTF8'))"
    return f"mod(get_byte({digest}, 0) * 256 + get_byte({digest}, 1), {shards})"


def _storable(text: str) -> None:
    """Raise ``ValueError`` for text that PostgreSQL cannot store."""
    if "\0" in text:
        raise ValueError("it has a NUL character")
    text.encode()
