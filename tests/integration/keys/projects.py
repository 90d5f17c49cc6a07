"""A throw-away host: its database is made, writes of every kind go into it, and the table is compared with the oracle.

``python -m tests.integration.keys.projects`` takes a host a line, as JSON, and answers with what went wrong, empty if
nothing did. Each is a child of this process, which has imported Django already: that takes longer than all the rest.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.integration.keys.shapes import FILTERS, KEYS, REFUSED, Shape, source
from tests.sessions import driver

EPOCH = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
ODD = (
    datetime.max.replace(tzinfo=timezone.utc),
    datetime(1000, 1, 1, tzinfo=timezone.utc),
    datetime(2026, 11, 1, 1, 30, tzinfo=timezone.utc),  # twice, on a clock in New York
)


def in_child(function: Callable[[], Any], log: Path) -> str:
    """Call it in a forked child; returns what it printed if it failed, and nothing if it did not."""
    child = os.fork()
    if not child:
        code = 1
        try:
            with log.open("w") as output, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                try:
                    function()
                    code = 0
                except BaseException:
                    traceback.print_exc()
        finally:
            os._exit(code)
    failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return log.read_text() if failed else ""


def make(shape: Shape, directory: Path, name: str) -> None:
    """Write the host, set Django up for it, and migrate a database of this name."""
    import django
    from django.conf import settings
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    app = directory / name / "shaped"
    app.mkdir(parents=True)
    (app / "__init__.py").touch()
    (app / "models.py").write_text(source(shape) + f"\n\ndef rule():\n    return {FILTERS[shape.filter]}\n")
    sys.path.insert(0, str(directory / name))
    url = urlsplit(os.environ["DATABASE_URL"])
    address: dict[str, Any] = {"host": url.hostname, "port": url.port, "user": url.username}
    with driver(**address, dbname=url.path[1:]) as administrator:
        administrator.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        administrator.execute(f'CREATE DATABASE "{name}" {shape.database}')
    with driver(**address, dbname=name) as administrator:
        for statement in (*shape.prepare, *shape.session):
            administrator.execute(statement.replace("@", f'"{name}"'))
    settings.configure(
        **{
            "SECRET_KEY": "only-for-tests", "USE_TZ": True, "INSTALLED_APPS": ["shaped", "workflows_tasks", "backfill"],
            "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
            "DATABASES": {"default": {
                "ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": url.username, "HOST": url.hostname,
                "PORT": url.port, "OPTIONS": dict(shape.options) if is_psycopg3 else {},  # all of them are psycopg's
            }},
            "RECENT_WORKFLOWS": {
                "RUN_MODEL": "shaped.Run", "WORKSPACE_FIELD": "workspace", "USER_FIELD": "person",
                "PUBLISHED_RUN_PATH": shape.path, "USED_AT_FIELD": "used_at", "RUN_FILTER": "shaped.models.rule",
                "GRAINS": shape.grains, "SHARDS": 3,
            },
            **shape.settings,
        }
    )  # fmt: skip
    django.setup()
    from celery import Celery
    from django.core.management import call_command
    from django.db import connection

    Celery("shaped", broker="memory://").set_current()
    for tenant in (*shape.other_tenants, None):
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE SCHEMA {tenant}; SET search_path = {tenant}" if tenant else "RESET search_path")
        if shape.is_unmanaged or shape.is_partitioned:
            _make_tables(shape)
        call_command("migrate", run_syncdb=True, verbosity=0)


def _make_tables(shape: Shape) -> None:
    """As another program does, in place of a migration."""
    from django.apps import apps
    from django.db import connection

    models = [model for model in apps.get_app_config("shaped").get_models() if not model._meta.proxy]
    with connection.schema_editor() as editor:
        for model in models:
            editor.create_model(model)
    if shape.is_partitioned:
        runs = connection.ops.quote_name(next(m for m in models if hasattr(m, "hidden"))._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE pattern (LIKE {runs} INCLUDING DEFAULTS INCLUDING GENERATED)")
            cursor.execute(f"DROP TABLE {runs}")
            cursor.execute(f"CREATE TABLE {runs} (LIKE pattern INCLUDING ALL) PARTITION BY LIST (hidden)")
            cursor.execute(f"CREATE TABLE hidden_runs PARTITION OF {runs} FOR VALUES IN (true)")
            cursor.execute(f"CREATE TABLE other_runs PARTITION OF {runs} DEFAULT")
            cursor.execute(f"CREATE INDEX ON {runs} (id)")
            cursor.execute("DROP TABLE pattern")


class World:
    """A few of everything, and random writes to it."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        from shaped import models  # type: ignore[import-not-found]  # written by make()

        self.models, self.shape, self.chance = models, shape, random.Random(seed)
        self.workspaces = self._made("Workspace", shape.workspace, 3)
        self.workflows = self._made("Workflow", shape.workflow, 4)
        self.users = self._made("Person", shape.user, 3)
        self.leads = [self._lead_to(workflow) for workflow in self.workflows]
        self.number = 0

    def _made(self, model: str, kind: str, count: int) -> list[Any]:
        """As the database has them: its idea of a key may be another than that of whoever made it."""
        objects = getattr(self.models, model).objects
        name = "code" if model == "Workspace" and self.shape.has_to_field else "pk"
        return [objects.get(pk=objects.create(**{name: KEYS[kind].value(number)}).pk) for number in range(count)]

    def place(self, workspace: Any) -> Any:
        """The key of a workspace that runs have."""
        return workspace.code if self.shape.has_to_field else workspace.pk

    def _lead_to(self, workflow: Any) -> Any:
        """What a run's first hop is, so that it leads to a workflow."""
        for number in range(self.shape.hops - 1, 0, -1):
            name = "workflow" if number == self.shape.hops - 1 else f"hop{number + 1}"
            workflow = getattr(self.models, f"Hop{number}").objects.create(**{f"{name}_id": workflow.pk})
        return workflow

    @property
    def first_hop(self) -> str:
        return "workflow" if self.shape.hops == 1 else "hop1"

    def moment(self) -> datetime:
        from django.conf import settings

        at = EPOCH + timedelta(minutes=self.chance.randrange(60))  # some at the same time
        if self.chance.random() < 0.05:
            at = self.chance.choice(ODD)
        return at if settings.USE_TZ else at.replace(tzinfo=None)

    def run(self) -> Any:
        """Save a new run."""
        run = self._new()
        run.save(force_insert=True)
        return run

    def _new(self) -> Any:
        self.number += 1
        key = {} if self.shape.made_by_database else {"id": KEYS[self.shape.run].value(self.number)}
        user = self.chance.choice(self.users)
        run = self.models.Run(**key, **{self.shape.began: self.moment()})
        run.workspace_id = self.place(self.chance.choice(self.workspaces))
        setattr(run, f"{self.first_hop}_id", self.chance.choice(self.leads).pk)
        setattr(run, self.person, user.pk)
        return run

    @property
    def person(self) -> str:
        return "person_id" if self.shape.user_is_foreign else "person"

    def write(self) -> None:
        """One write of any kind."""
        runs = self.models.Run.objects.order_by("?")
        run = runs.first()
        self.chance.choice([self.run] * 3 + ([] if run is None else [
            lambda: runs.filter(pk=run.pk).delete(),
            lambda: runs.filter(pk=run.pk).update(hidden=not run.hidden),
            lambda: runs.filter(pk=run.pk).update(workspace_id=self.place(self.chance.choice(self.workspaces))),
            lambda: runs.filter(pk=run.pk).update(**{self._nothing(): None}),
            lambda: runs.filter(pk=run.pk).update(**{self.person: self.chance.choice(self.users).pk}),
            lambda: self._make_again(self.chance.choice([*self.workspaces, *self.workflows])),
            self._insert_many,
            lambda: runs.filter(pk=run.pk).update(**{self.shape.began: self.moment()}),
            lambda: runs.filter(pk=run.pk).update(**{f"{self.first_hop}_id": self.chance.choice(self.leads).pk}),
            lambda: self._save_again(run),
            lambda: self._toggle(self.chance.choice(self.workspaces)),
            self._lead_to_another,
            self._write_from_another_session,
        ]))()  # fmt: skip

    def _nothing(self) -> str:
        return self.chance.choice(["workspace_id", f"{self.first_hop}_id", self.person, self.shape.began])

    def _insert_many(self) -> None:
        runs = [self._new() for _ in range(3)]
        kinds = {self.shape.run, self.shape.workspace, self.shape.workflow, self.shape.user}
        if self.shape.is_inherited or "padded" in kinds:  # bulk_create refuses the first, and cuts a char(8) to one
            for run in runs:
                run.save(force_insert=True)
        else:
            self.models.Run.objects.bulk_create(runs)

    def _make_again(self, target: Any) -> None:
        """Delete a workspace or a workflow, as the database's own program does, and make it again."""
        from django.db import connection

        key = target.pk
        target.delete()
        target.pk = key
        if isinstance(target, self.models.Workspace):
            target.closed = False
        target.save(force_insert=True)
        assert connection.get_autocommit()

    def _save_again(self, run: Any) -> None:
        setattr(run, self.shape.began, self.moment())
        run.save()

    def _toggle(self, workspace: Any) -> None:
        workspace.closed = not workspace.closed
        workspace.save()

    def _lead_to_another(self) -> None:
        """A hop, of which many runs may hang, gets another workflow."""
        last = self.shape.hops - 1
        if last:
            hops = getattr(self.models, f"Hop{last}").objects
            hop = hops.order_by("?").first()
            hops.filter(pk=hop.pk).update(workflow_id=self.chance.choice(self.workflows).pk)

    def _write_from_another_session(self) -> None:
        """Of a program that prints dates, numbers and times in its own way, and looks for tables in another schema."""
        from django.db import connection

        model = self.models.Execution if self.shape.is_inherited else self.models.Run
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT format('%%I.%%I', nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE pg_class.oid = to_regclass(%s)",
                [connection.ops.quote_name(model._meta.db_table)],
            )
            (table,) = cursor.fetchone()
        with driver(**connection.get_connection_params()) as other:
            other.execute("SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Tokyo'; SET extra_float_digits = 0")
            other.execute("SET search_path = pg_catalog")
            other.execute(
                f"UPDATE {table} SET hidden = NOT hidden WHERE id = (SELECT id FROM {table} ORDER BY random() LIMIT 1)"
            )

    def counts(self, run: Any) -> bool:
        shown = not run.hidden
        if self.shape.filter == "none":
            return True
        if self.shape.filter == "a column":
            return shown
        closed = run.workspace is not None and run.workspace.closed
        if self.shape.filter == "of the workspace":
            return shown and run.workspace is not None and not closed
        return shown or run.workspace is None or closed

    def expected(self) -> set[tuple[Any, ...]]:
        """The oracle: ``(workspace, user, workflow, moment, run)`` for each grain, users by their key or None."""
        newest: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        for rank, run in enumerate(self.models.Run.objects.order_by("pk").select_related("workspace")):
            workflow: Any = run
            for name in self.shape.path.split("__"):
                workflow = getattr(workflow, name) if workflow is not None else None
            if None in (run.workspace_id, workflow, run.used_at) or not self.counts(run):
                continue
            user = run.person_id if self.shape.user_is_foreign else run.person
            for who in {None, user}:
                if ("workspace" if who is None else "user") in self.shape.grains:
                    key = (run.workspace_id, who, workflow.pk)
                    newest[key] = max(newest.get(key, ()), (run.used_at, rank, run.pk))
        return {(*key, used_at, run) for key, (used_at, _, run) in newest.items()}

    def page(self, workspace: Any, user: Any, *, fresh: bool) -> list[tuple[Any, ...]]:
        from workflows_tasks import recent_workflows

        rows: Any = recent_workflows(workspace, user, 20)
        if fresh:
            rows = recent_workflows(workspace, user, 20, fresh=True)
        return [(row.published_run_id, row.last_used_at, row.last_run_id) for row in rows]

    def assert_pages(self, *, fresh: bool) -> None:
        """Each page, asked with the object, its key or its text, is what the oracle says."""
        rows = self.expected()
        for workspace, user in self._pages():
            who = None if user is None else user.pk
            key = self.place(workspace)
            wanted = {row[2:] for row in rows if row[:2] == (key, who)}
            for place in (workspace, key, KEYS[self.shape.workspace].text(key)):
                shown = self.page(place, user, fresh=fresh)
                assert set(shown) == wanted, (place, user, shown, wanted)
                assert [row[1] for row in shown] == sorted((row[1] for row in shown), reverse=True)
            if user is not None:
                for person in (user.pk, KEYS[self.shape.user].text(user.pk)):
                    assert set(self.page(workspace, person, fresh=fresh)) == wanted, (person, wanted)

    def _pages(self) -> Iterator[tuple[Any, Any]]:
        for workspace in self.workspaces:
            if "workspace" in self.shape.grains:
                yield workspace, None
            if "user" in self.shape.grains:
                for user in self.users:
                    yield workspace, user

    def assert_exact(self) -> None:
        """Once nothing waits, table and oracle agree, and so does ``compare``, which says so by itself."""
        from workflows_tasks.comparison.compare import compare
        from workflows_tasks.comparison.verify import parts
        from workflows_tasks.models import WorkspaceRecentWorkflow
        from workflows_tasks.projection import backlog
        from workflows_tasks.projection.flush import flush_all
        from workflows_tasks.projection.ranges import EVERYWHERE

        flush_all()
        assert not any(shard.pending or shard.quarantined for shard in backlog.status()), backlog.quarantined(3)
        rows = self.expected()
        stored = WorkspaceRecentWorkflow.objects.values_list(
            "workspace_id", "published_run_id", "last_used_at", "last_run_id"
        )
        # Of an hour that comes twice, naive moments do not say which.
        there = sorted(repr((w, f, at.replace(fold=0), run)) for w, f, at, run in stored)
        true = sorted(repr((w, f, at.replace(fold=0), run)) for w, _, f, at, run in rows)
        assert there == true, set(there) ^ set(true)
        assert compare(EVERYWHERE) == []
        assert all(not part.error and not part.differences for part in parts(EVERYWHERE))

    def assert_history(self) -> None:
        """The same table comes of a backfill in small chunks. ``is_filled`` has the order of the column."""
        from backfill import control, leases, models, planner, worker
        from backfill.coverage import is_filled
        from workflows_tasks.history import workspace_text
        from workflows_tasks.models import WorkspaceRecentWorkflow
        from workflows_tasks.projection.ranges import EVERYWHERE

        WorkspaceRecentWorkflow.objects.all().delete()
        backfill = control.start(EVERYWHERE, chunk_size=3, concurrency=1, actor="a test")
        planner.carry_out(backfill.pk)
        ordered = list(self.models.Workspace.objects.order_by("code" if self.shape.has_to_field else "pk"))
        order = {workspace_text(workspace): place for place, workspace in enumerate(ordered)}
        while control.get(backfill.pk).status == "running":
            lease = leases.claim(backfill.pk)
            assert lease is not None
            worker._attempt(lease, 1e12)
            left = list(models.chunks(backfill).exclude(status="done").filter(kind="fill"))
            ends = [(order[chunk.first_workspace], order[chunk.last_workspace]) for chunk in left]
            for place, workspace in enumerate(ordered):
                is_left = any(first <= place <= last for first, last in ends)
                assert is_filled(workspace) != is_left, (workspace.pk, ends)
        while not control.get(backfill.pk).has_ended:
            worker.work(backfill.pk)
        assert control.get(backfill.pk).status == "succeeded", control.get(backfill.pk).error
        assert all(map(is_filled, self.workspaces))
        self.assert_exact()

    def assert_commands(self) -> None:
        """No check refuses the host, and what an operator asks is answered."""
        from io import StringIO

        from django.core.management import call_command

        call_command("check", databases=["default"], stdout=StringIO(), stderr=StringIO())
        place = KEYS[self.shape.workspace].text(self.place(self.workspaces[0]))
        user = KEYS[self.shape.user].text(self.users[0].pk)
        page = [place] if "workspace" in self.shape.grains else [place, user]
        for command in (["status"], ["verify"], ["explain", "--", *page], ["triggers"]):
            call_command("recent_workflows", *command, stdout=StringIO())
        if self.shape.run == "text":
            self._assert_another_order_is_refused()

    def _assert_another_order_is_refused(self) -> None:
        """As where the host's table was made by somebody else, with a collation that its field does not name."""
        from django.core.management import call_command
        from django.core.management.base import SystemCheckError
        from django.db import connection

        from workflows_tasks.models import WorkspaceRecentWorkflow

        with connection.cursor() as cursor:
            cursor.execute(
                f'ALTER TABLE {WorkspaceRecentWorkflow._meta.db_table} ALTER last_run_id TYPE text COLLATE "POSIX"'
            )
        said = ""
        try:
            call_command("check", databases=["default"])
        except SystemCheckError as error:
            said = str(error)
        assert "E032) The column of shaped." in said
        assert 'by "POSIX" as its field says' in said

    def assert_other_tenants(self) -> None:
        """Nothing of this one's writes is in their tables."""
        from django.db import connection

        from workflows_tasks.models import CHANGES, WorkspaceRecentWorkflow

        for tenant in self.shape.other_tenants:
            for table in (CHANGES, WorkspaceRecentWorkflow._meta.db_table):
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT count(*) FROM {tenant}.{table}")
                    assert cursor.fetchone() == (0,), (tenant, table)

    def assert_texts(self) -> None:
        """The text that is made here is the one that PostgreSQL makes, and so is the shard."""
        from django.db import connection

        from workflows_tasks import history, keys
        from workflows_tasks.host import host

        found = host()
        fields = {"workspace": found.workspace, "workflow": found.workflow, "user": found.user, "run": found.run_key}
        for name, model in (("workspace", self.models.Workspace), ("workflow", self.models.Workflow)):
            table = connection.ops.quote_name(model._meta.db_table)
            column = "code" if name == "workspace" and self.shape.has_to_field else "id"
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {column}::text, {keys.shard_sql(f'{column}::text', 3)} FROM {table}")
                printed = dict(cursor.fetchall())
            for each in model.objects.all():
                text = keys.as_text(fields[name], getattr(each, "pk" if column == "id" else column))
                assert text is None or text in printed, (text, printed)
                if text is not None:
                    assert keys.shard_of(text, 3) == printed[text]
        for workspace in self.workspaces:
            assert history.workspace_text(workspace) == history.workspace_text(self.place(workspace))


def tried(shape: Shape, directory: Path, name: str, *, writes: int = 24, seed: int = 0) -> None:
    """Make the host, and write to it; raises if its table or a page is ever not what the oracle says."""
    make(shape, directory, name)
    world = World(shape, seed)
    world.assert_texts()
    for number in range(writes):
        world.write()
        if number % (writes // 3) == 0:
            world.assert_exact()
    from workflows_tasks.projection.flush import flush_all

    world.assert_exact()
    world.assert_pages(fresh=False)
    world.run()
    if shape.hops == 1:  # no scope waits
        world.assert_pages(fresh=True)
    flush_all()
    world.assert_pages(fresh=True)
    shown = world.models.Run.objects.order_by("-used_at", "-pk").first()
    world.models.Run.objects.filter(pk=shown.pk).delete()
    world.assert_exact()
    world.assert_history()
    world.assert_commands()
    world.assert_other_tenants()


def refused(shape: Shape, directory: Path, name: str, *, seed: int = 0) -> None:
    """A check refuses the host before anything is written; where it is silenced, flushes have an end all the same."""
    from django.core.management import call_command
    from django.core.management.base import SystemCheckError

    make(shape, directory, name)
    from django.db import connection

    from workflows_tasks.models import WorkspaceRecentWorkflow
    from workflows_tasks.projection import backlog
    from workflows_tasks.projection.flush import flush

    call_command("migrate", "workflows_tasks", "zero", verbosity=0)
    try:
        call_command("migrate", verbosity=0, skip_checks=False)
        said = ""
    except SystemCheckError as error:
        said = str(error)
    assert "recent_workflows.E031" in said
    assert WorkspaceRecentWorkflow._meta.db_table not in connection.introspection.table_names()
    call_command("migrate", verbosity=0)
    world = World(shape, seed)
    kinds = {"workspace_id": shape.workspace, "workflow_id": shape.workflow, world.person: shape.user}
    for _ in range(40):
        world.write()
        run = world.models.Run.objects.order_by("?").first()
        for column, kind in kinds.items():
            if run is not None and kind in REFUSED and getattr(run, column) is not None:
                spelled = world.chance.choice([str.upper, str.lower])(getattr(run, column))
                world.models.Run.objects.filter(pk=run.pk).update(**{column: spelled})
        for _ in range(10):
            for shard in backlog.shards_pending():
                flush(shard)
        assert not backlog.shards_pending(), backlog.status()


def main() -> None:
    import celery
    import django.core.management
    import django.db.backends.postgresql.psycopg_any
    import django.db.models
    import redis

    assert all((celery, django.core.management, django.db.backends.postgresql.psycopg_any, django.db.models, redis))
    for line in sys.stdin:
        shape, directory, name, seed = json.loads(line)
        log = Path(directory) / f"{name}.log"
        is_refused = not REFUSED.isdisjoint((shape["workspace"], shape["user"], shape["workflow"]))
        what = partial(refused if is_refused else tried, Shape(**shape), Path(directory), name, seed=seed)
        failed = in_child(what, log)
        print(json.dumps(failed), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
