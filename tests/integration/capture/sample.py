"""A few runs in the table, for a test to write to, and the host's tables as SQL has them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models

from tests.hosts.adapter import Host, moment
from tests.oracle import Row, assert_exact, expected, flush_all
from tests.sessions import execute, query
from workflows_tasks import history, keys
from workflows_tasks.host import host as resolved
from workflows_tasks.models import CHANGES


class Sample:
    """Runs of two workspaces, two users and two workflows, a minute apart, in the table."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.workspace, self.other_workspace = host.make_workspace(), host.make_workspace()
        self.user, self.colleague = host.make_user(), host.make_user()
        self.workflow, self.another = host.make_workflow(), host.make_workflow()
        self.far = self.run(1, workspace=self.other_workspace)
        """The only one of the other workspace."""
        self.other = self.run(2, workflow=self.another)
        """The only one of the other workflow."""
        self.colleagues = self.run(3, user=self.colleague)
        self.older = self.run(4)
        self.newest = self.run(5)
        """Of the workspace, user and workflow of ``older``: the one that rows name."""
        # Not by flushes, which take a hundred times longer for what the triggers have just written.
        history.fill(history.EVERYWHERE)
        execute(f"DELETE FROM {CHANGES}")
        assert_exact(host)
        self.before = expected(host)

    def run(self, minute: float, **fields: Any) -> Any:
        """A new run, saved the ordinary way."""
        ours = {"workspace": self.workspace, "workflow": self.workflow, "user": self.user}
        return self.host.make_run(**{**ours, **fields}, used_at=moment(minute))

    def check(self) -> None:
        """What was written since has changed what is true, and the table follows by flushes alone."""
        true = self.follows()
        assert Counter(true) != Counter(self.before), "this write concerned no row, so it proves nothing"
        self.before = true

    def follows(self) -> list[Row]:
        """The table follows what was written, by flushes alone; returns what is true."""
        true = expected(self.host)
        flush_all()
        assert_exact(self.host)
        return true

    @contextmanager
    def written(self) -> Iterator[None]:
        """Around a write: as ``check``."""
        yield
        self.check()

    def several(self, *runs: Any) -> models.QuerySet[Any]:
        """A queryset of these runs, or of all."""
        queryset: models.QuerySet[Any] = models.QuerySet(self.host.run_model)
        return queryset.filter(pk__in=[run.pk for run in runs]) if runs else queryset

    def hops(self, run: Any) -> list[tuple[Any, Any]]:
        """The way from a run to its workflow, the run's own key left out: each object, and its foreign key onwards."""
        first, *others = resolved().path
        found, at = [], getattr(self.several(run).get(), first.name)
        for hop in others:
            found.append((at, hop))
            at = getattr(at, hop.name)
        return found


def own_tables(model: Any) -> list[Any]:
    """The models whose tables hold a run: multi-table parents first."""
    return [*reversed(model._meta.get_parent_list()), model]


def table(model: Any) -> str:
    return f'"{model._meta.db_table}"'


def columns(model: Any) -> list[str]:
    """The columns of the model's own table, its key first."""
    key = model._meta.pk.column
    return [key, *(field.column for field in model._meta.local_concrete_fields if field.column != key)]


def new_key(sample: Sample) -> Any:
    """A key that no run has."""
    kind = keys.column_type(resolved().run_key)
    if kind == "uuid":
        return uuid.uuid4()
    if kind == "text":
        return uuid.uuid4().hex
    return query(f"SELECT max({sample.host.run_model._meta.pk.column}) + 1000 FROM {table(sample.host.run_model)}")[0][
        0
    ]


def copy_sql(model: Any, run: Any, key: Any) -> str:
    """An INSERT of the run's row in the table of ``model`` again, under another key, a day later."""
    of_time = resolved().used_at
    first, *others = columns(model)
    values = [
        f"\"{name}\" + interval '1 day'" if (model, name) == (of_time.model, of_time.column) else f'"{name}"'
        for name in others
    ]
    named = ", ".join(f'"{name}"' for name in (first, *others))
    selected = f"SELECT '{key}', {', '.join(values)} FROM {table(model)} WHERE \"{first}\" = '{run.pk}'"
    return f"INSERT INTO {table(model)} ({named}) {selected}"


def set_sql(field: Any, value: str, run: Any) -> str:
    """An UPDATE of one field of a run; ``value`` is SQL."""
    model = field.model
    return f'UPDATE {table(model)} SET "{field.column}" = {value} WHERE "{model._meta.pk.column}" = \'{run.pk}\''


def sql_value(field: Any, instance: Any) -> str:
    """What a foreign key's column holds for an instance, as a literal."""
    return f"'{getattr(instance, field.target_field.attname)}'"


def key_sql(instance: Any) -> str:
    """Condition that names an instance's row in its own table."""
    key = instance._meta.pk
    return f"\"{key.column}\" = '{instance.pk}'"


def logged() -> int:
    """Changes in the log."""
    return int(query(f"SELECT count(*) FROM {CHANGES}")[0][0])


def user_sql(sample: Sample, user: Any) -> str:
    """What the user's column holds for a user, as a literal."""
    field = resolved().user
    return sql_value(field, user) if field.remote_field else f"'{user}'"


def later(run: Any) -> str:
    """An UPDATE that makes a run the newest of all."""
    field = resolved().used_at
    return set_sql(field, f"\"{field.column}\" + interval '2 days'", run)


def execute_all(*statements: str) -> None:
    for statement in statements:
        execute(statement)
