"""A key's text, made here, is what PostgreSQL prints of a column that was given the value; or it is not made here."""

from __future__ import annotations

import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, models

from tests.hosts.adapter import Host
from workflows_tasks import keys
from workflows_tasks.errors import InvalidArgument

pytestmark = pytest.mark.host_independent

PRICE = models.DecimalField(max_digits=10, decimal_places=2)
WIDE = models.DecimalField(max_digits=60, decimal_places=1)


class Padded(models.CharField):  # type: ignore[type-arg]  # not generic when it runs
    def db_type(self, connection: Any) -> str:
        return f"char({self.max_length})"


VALUES: list[tuple[models.Field[Any, Any], Any]] = [
    (models.AutoField(), 7),
    (models.BigAutoField(), 2**62),
    (models.SmallAutoField(), -3),
    (models.IntegerField(), "-5"),
    (models.PositiveBigIntegerField(), 2**63 - 1),
    (models.CharField(max_length=50), "Zoë’s “key”: 100 %\\ "),
    (models.TextField(), "two\nlines"),
    (models.SlugField(), "A-slug"),
    (models.EmailField(), "Ada@example.org"),
    (Padded(max_length=6), "ab"),
    (Padded(max_length=6), "ab    "),
    (Padded(max_length=6), " a b "),
    (models.UUIDField(), uuid.UUID("12345678-1234-5678-1234-567812345678")),
    (models.UUIDField(), "12345678123456781234567812345678"),
    (models.UUIDField(), "{ABCDEF78-1234-5678-1234-567812345678}"),
    *[(PRICE, Decimal(text)) for text in ("2.5", "2.505", "2.515", "-2.505", "-0.001", "1E+3", "0", "12345.678")],
    (PRICE, "7"),
    (PRICE, 7),
    (WIDE, Decimal(10**50)),
    (models.FloatField(), 0.1),
    (models.BooleanField(), True),
    (models.DateField(), date(2026, 2, 28)),
    (models.DateField(), date(7, 1, 1)),
    (models.DateTimeField(), datetime(2026, 7, 1, 12, 30, 0, 123_456, timezone.utc)),
    (models.TimeField(), time(23, 59, 59, 1)),
    (models.DurationField(), timedelta(days=3, microseconds=5)),
    (models.GenericIPAddressField(), "2001:DB8::1"),
    (models.GenericIPAddressField(), "10.0.0.7"),
]


@pytest.mark.parametrize(("field", "value"), VALUES, ids=[f"{type(f).__name__} {v!r}" for f, v in VALUES])
def test_text_is_as_postgresql_prints_it(live: Host, field: models.Field[Any, Any], value: Any) -> None:
    field.set_attributes_from_name("key")
    kind = field.rel_db_type(connection)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE printed (key {kind}) ON COMMIT PRESERVE ROWS")
        try:
            cursor.execute("INSERT INTO printed VALUES (%s)", [keys.database_value(field, value)])
            cursor.execute(f"SELECT {keys.text_of('key')} FROM printed")
            (printed,) = cursor.fetchone()
            cursor.execute(f"SELECT count(*) FROM printed WHERE key = %s::{keys.column_type(field)}", [printed])
            assert cursor.fetchone() == (1,), "and the text, cast back, is the key"
        finally:
            cursor.execute("DROP TABLE printed")
    assert keys.as_text(field, value) in {None, printed}
    made_here = (models.IntegerField, models.CharField, models.UUIDField, models.DecimalField, models.TextField)
    assert keys.as_text(field, value) is not None or not isinstance(field, made_here)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (models.IntegerField(), "seven"),
        (models.IntegerField(), {}),
        (models.UUIDField(), "7"),
        (PRICE, "many"),
        (PRICE, Decimal("1E+5000")),
        (models.CharField(max_length=5), "nul\0"),
        (models.CharField(max_length=5), "\ud800"),
        (models.DateField(), "yesterday"),
    ],
)
def test_what_is_no_key_is_an_error_of_ours(live: Host, field: models.Field[Any, Any], value: Any) -> None:
    field.set_attributes_from_name("key")
    with pytest.raises(InvalidArgument):
        keys.as_text(field, value)


@pytest.mark.parametrize("key", ["1; DROP TABLE x", "1 OR 1=1", "1\0", "9" * 5_000, "", "1e400", {}, 10**30, -(2**80)])
def test_workspaces_from_anywhere(live: Host, key: Any) -> None:
    """A page of nothing, or an error of ours: nothing else."""
    from workflows_tasks import recent_workflows

    try:
        assert not list(recent_workflows(key, "anna"))
        assert not list(recent_workflows(key, "anna", fresh=True))
    except InvalidArgument:
        return


@pytest.mark.parametrize("user", ["' OR ''='", "%", "%s", "anna\0", "\ud800", "x" * 100_000])
def test_users_from_anywhere(live: Host, user: str) -> None:
    from tests.oracle import flush_all
    from workflows_tasks import recent_workflows

    workspace = live.make_workspace()
    live.make_run(workspace=workspace, workflow=live.make_workflow(), user="anna")
    flush_all()
    try:
        assert not list(recent_workflows(workspace, user))
        assert not list(recent_workflows(workspace, user, fresh=True))
    except InvalidArgument:
        return
