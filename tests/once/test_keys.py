"""Keys of every type that Django has: what stands in the inbox and in bookmarks is the key again, here and in SQL."""

from __future__ import annotations

import re
import uuid
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, models

from tests.hosts.adapter import Host
from workflows_tasks.ids import as_text
from workflows_tasks.sql.fragments import prepared

SUMMER = datetime(2026, 7, 1, 12, 30, 0, 123_456, timezone.utc)

KEYS: list[tuple[models.Field[Any, Any], Any]] = [
    (models.AutoField(), 7),
    (models.BigAutoField(), 2**62),
    (models.SmallAutoField(), -3),
    (models.IntegerField(), -5),
    (models.PositiveBigIntegerField(), 2**63 - 1),
    (models.CharField(max_length=50), "Zoë's “key”: 100 %\\"),
    (models.TextField(), "two\nlines"),
    (models.SlugField(), "a-slug"),
    (models.EmailField(), "ada@example.org"),
    (models.UUIDField(), uuid.UUID("12345678-1234-5678-1234-567812345678")),
    (models.DecimalField(max_digits=10, decimal_places=2), Decimal("12345.60")),
    (models.FloatField(), 0.1),
    (models.BooleanField(), True),
    (models.DateField(), date(2026, 2, 28)),
    (models.DateTimeField(), SUMMER),
    (models.TimeField(), time(23, 59, 59, 1)),
    (models.DurationField(), timedelta(days=3, microseconds=5)),
    (models.GenericIPAddressField(), "2001:db8::1"),
]


@pytest.mark.parametrize(("field", "key"), KEYS, ids=[type(field).__name__ for field, _ in KEYS])
def test_a_key_comes_back_from_its_text(live: Host, field: models.Field[Any, Any], key: Any) -> None:
    field.set_attributes_from_name("key")
    text = as_text(field, key)
    again = field.to_python(text)
    assert (again, as_text(field, again)) == (key, text)
    with connection.cursor() as cursor:
        kind = re.sub(r"\(.*\)", "", str(field.rel_db_type(connection)))
        cursor.execute(f"SELECT %s::{kind}[] = %s::{kind}[]", [prepared(field, [key]), prepared(field, [again])])
        assert cursor.fetchone() == (True,)
