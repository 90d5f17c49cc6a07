"""``manage.py check`` finds each mistake, and says what would come of it and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connection, models
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Exists, Q
from django.db.models.functions import Now

import backfill
import workflows_tasks
from tests.commands import manage, write_files
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.hosts.environment import OVERRIDES
from workflows_tasks import checks, conf
from workflows_tasks import host as hosts
from workflows_tasks.capture import installation, triggers
from workflows_tasks.capture.triggers import ROW_TRIGGER
from workflows_tasks.errors import ConfigurationError
from workflows_tasks.host import problems as host_problems
from workflows_tasks.monitoring import indexes

pytestmark = pytest.mark.host_independent


def found(**options: Any) -> str:
    """What ``manage.py check`` says, warnings included; empty if all is well."""
    try:
        call_command("check", fail_level="WARNING", **options)
    except SystemCheckError as error:
        return str(error)
    return ""


def no_q() -> str:
    return "no Q"


class ElsewhereRouter:
    def db_for_write(self, model: type[models.Model], **_: Any) -> str | None:
        return "another" if model._meta.app_label in {"workflows_tasks", "backfill"} else None


def test_nothing_is_wrong_with_a_sound_host() -> None:
    assert found() == ""


MISTAKES: list[tuple[str, dict[str, Any], str, str]] = [
    ("E002", {"RUN_FILTERS": Q()}, "'RUN_FILTERS'] is no setting", "Known: .*RUN_FILTER"),
    ("E002", {"shards": 4}, "'shards'] is no setting", "correct its name"),
    ("E003", {"USER_FIELD": ...}, "'USER_FIELD'] is missing .*no change would be flushed", "Set it"),
    ("E004", {"SHARDS": "8"}, "is '8', a str; expected int; no change would be flushed", "value of that type"),
    ("E004", {"SHARDS": True}, "'SHARDS'] is True", "value of that type"),
    ("E004", {"FLUSH_WINDOW_S": "1s"}, "expected float", "value of that type"),
    ("E004", {"RUN_FILTER": {"surface": 0}}, "a dict; expected Q", "value of that type"),
    ("E004", {"RUN_MODEL": ""}, "'RUN_MODEL'] is empty; no change", "Set it"),
    ("E004", {"GRAINS": ("team",)}, "pages can read 'workspace' and 'user' only", "tuple of one of them"),
    ("E004", {"GRAINS": ()}, "pages can read", "Set GRAINS"),
    ("E004", {"GRAINS": ("user", "user")}, "pages can read", "Set GRAINS"),
    ("E004", {"GRAINS": "user"}, "a str; expected tuple", "value of that type"),
    ("E004", {"USER_ATTRIBUTE": ""}, "is empty", "Set it"),
    ("E005", {"SHARDS": 0}, "no change could be flushed", "Set SHARDS to at least 1"),
    ("E005", {"SHARDS": -3}, "no change could be flushed", "Set SHARDS to at least 1"),
    ("E005", {"SHARDS": 257}, "written once for each", "at most 256"),
    ("E005", {"FLUSH_WINDOW_S": 0}, "is 0;", "Set FLUSH_WINDOW_S to more than 0"),
    ("E005", {"PAUSE_S": float("inf")}, "is inf", "Set PAUSE_S"),
    ("E005", {"PAUSE_S": float("nan")}, "is nan", "Set PAUSE_S"),
    ("E006", {"FLUSH_WINDOW_S": 30.0}, "killed before the next", "Raise FLUSH_TIME_LIMIT_S or lower FLUSH_WINDOW_S"),
    ("E010", {"RUN_MODEL": "bots.Nothing"}, "'bots.Nothing' is no model", "app_label.Model"),
    ("E010", {"RUN_MODEL": "nowhere.SavedRun"}, "'nowhere.SavedRun' is no model", "INSTALLED_APPS"),
    ("E010", {"RUN_MODEL": "SavedRun"}, "'SavedRun' is no model", "app_label.Model"),
    ("E011", {"WORKSPACE_FIELD": "nothing"}, "'nothing' is no field of bots.SavedRun", "Its fields are: .*workspace"),
    ("E011", {"WORKSPACE_FIELD": "uid"}, "but a CharField; no column of it points to another", "Name a ForeignKey"),
    ("E011", {"RUN_MODEL": "bots.Workspace", "WORKSPACE_FIELD": "runs"}, "'runs' is no foreign key", "ForeignKey"),
    ("E012", {"USER_FIELD": "user"}, "'user' is no field of bots.SavedRun", "Its fields are: .*uid"),
    ("E012", {"RUN_MODEL": "bots.Workspace", "USER_FIELD": "runs"}, "'runs' has no column", "Name a column"),
    ("E013", {"PUBLISHED_RUN_PATH": "version__published_run"}, "'version' is no field of bots.SavedRun", "Its fields"),
    ("E013", {"PUBLISHED_RUN_PATH": "parent_version__workflow"}, "'workflow' is no field of bots.PublishedRunVersion",
     "Its fields are: .*published_run"),
    ("E013", {"PUBLISHED_RUN_PATH": "parent_version__number"}, "'number' is no foreign key", "Name a ForeignKey"),
    ("E014", {"USED_AT_FIELD": "changed_at"}, "'changed_at' is no field", "Its fields are: .*updated_at"),
    ("E014", {"USED_AT_FIELD": "surface"}, "'surface' is a IntegerField", "Name a DateTimeField"),
    ("E015", {"RUN_FILTER": Q(hidden=False)}, "not compile over bots.SavedRun .*no flush could", "Correct the filter"),
    ("E015", {"RUN_FILTER": Q(surface="none")}, "does not compile", "Correct the filter"),
    ("E015", {"RUN_FILTER": Q(surface__in=[])}, "lets no run through", "Correct the filter"),
    ("E015", {"RUN_FILTER": "nowhere.counts"}, "cannot be imp.*no write would be captured", "dotted path"),
    ("E015", {"RUN_FILTER": f"{__name__}.no_q"}, "returned 'no Q'.*no write", "Return a django.db.models.Q"),
    ("E015", {"BACKFILL_FILTER": Q(hidden=False)}, "BACKFILL_FILTER.*does not compile", "Correct the filter"),
    ("E016", {"RUN_FILTER": Q(updated_at__lt=Now())}, "reads the clock", "Compare with a column"),
    ("W003", {"RUN_FILTER": Q(workspace__runs__surface=0)}, "late until the audit", "Compare with a column"),
    ("W003", {"RUN_FILTER": Q(Exists(ContentType.objects.all()))}, "late until the audit", "Compare with a column"),
    ("E023", {"REDIS_URL": "nowhere.factory"}, "makes no client", "factory"),
    ("E023", {"REDIS_URL": "http://localhost"}, "makes no client", "redis://"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "mistake", "consequence", "fix"),
    MISTAKES,
    ids=[f"{m[0]} {' '.join(m[1])} {n}" for n, m in enumerate(MISTAKES)],
)
def test_a_mistake_in_the_settings(
    configure: Configure, settings: Any, number: str, mistake: dict[str, Any], consequence: str, fix: str
) -> None:
    merged = {**settings.RECENT_WORKFLOWS, **mistake}
    settings.RECENT_WORKFLOWS = {key: value for key, value in merged.items() if value is not ...}
    said = found()
    assert f"(recent_workflows.{number})" in said
    assert re.search(consequence, said)
    assert re.search(f"HINT: .*{fix}", said)


def test_each_mistake_is_reported_at_once_not_the_first_only(configure: Configure) -> None:
    configure(WORKSPACE_FIELD="nothing", USER_FIELD="nobody", PUBLISHED_RUN_PATH="nowhere", USED_AT_FIELD="never")
    said = found()
    assert all(f"(recent_workflows.E{number:03})" in said for number in (11, 12, 13, 14))


@pytest.mark.parametrize("value", [None, [], "bots.SavedRun"])
def test_no_settings_at_all(settings: Any, value: Any) -> None:
    settings.RECENT_WORKFLOWS = value
    said = found()
    assert "(recent_workflows.E001)" in said
    assert "no workflow can be tracked" in said
    assert "HINT: Set RECENT_WORKFLOWS = {'RUN_MODEL': ..." in said


def test_the_code_refuses_what_the_check_reports(configure: Configure) -> None:
    configure(SHARDS=0)
    with pytest.raises(
        ConfigurationError, match=r"no change could be flushed.*at least 1.*recent_workflows\.E005"
    ) as refused:
        conf.settings()
    assert isinstance(refused.value, ImproperlyConfigured)


def _composite_key(configure: Configure) -> None:
    pair = type(
        "Pair",
        (models.Model,),
        {
            "__module__": __name__,
            "Meta": type("Meta", (), {"app_label": "bots"}),
            "pk": models.CompositePrimaryKey("left", "right"),
            "left": models.IntegerField(),
            "right": models.IntegerField(),
        },
    )
    try:
        configure(RUN_MODEL="bots.Pair")
        said = found()
    finally:
        del apps.all_models["bots"]["pair"]
        apps.clear_cache()
    assert pair is not None
    assert "(recent_workflows.E010) RECENT_WORKFLOWS['RUN_MODEL']: bots.Pair has a composite primary key" in said
    assert "Give it a single-column primary key" in said


if hasattr(models, "CompositePrimaryKey"):  # Django 5.2 and newer

    def test_a_run_with_a_composite_key(configure: Configure) -> None:
        _composite_key(configure)


@pytest.mark.parametrize(
    ("overrides", "number", "says"),
    [
        ({"RUN_MODEL": None}, "E003", "'RUN_MODEL'] is missing"),
        ({"RUN_MODEL": "bots.Nothing"}, "E010", "no run is seen"),
        ({"WORKSPACE_FIELD": "nothing"}, "E011", "'nothing' is no field of bots.SavedRun"),
        ({"PUBLISHED_RUN_PATH": "parent_version__nothing"}, "E013", "is no field of bots.PublishedRunVersion"),
        ({"RUN_FILTER": "nowhere.counts"}, "E015", "'nowhere.counts' cannot be imported"),
    ],
)
def test_django_starts_far_enough_to_say_so(overrides: dict[str, Any], number: str, says: str) -> None:
    """Our foreign keys point nowhere then, and still ``check`` ends with a message, not a traceback."""
    code, output = manage("check", settings="tests.hosts.platform.settings", env={OVERRIDES: json.dumps(overrides)})
    assert code == 1
    assert f"(recent_workflows.{number})" in output
    assert output.count(says) == 1, "and once"
    assert "Traceback" not in output


def test_a_web_process_says_once_why_settings_cannot_be_used(
    transactional_db: None, configure: Configure, caplog: Any
) -> None:
    """It runs no checks. The others say it by them, and not in the log too."""
    from django.core.signals import request_started

    from workflows_tasks.apps import WorkflowsTasksConfig

    configure(WORKSPACE_FIELD="uid")
    (why,) = host_problems()
    WorkflowsTasksConfig("workflows_tasks", workflows_tasks).ready()
    for _ in range(2):
        request_started.send(sender=None, environ={})
    configure(WORKSPACE_FIELD="workspace")
    assert [record.getMessage() for record in caplog.records].count(str(why)) == 1


def test_the_backfill_without_the_package_is_one_line_with_the_fix(tmp_path: Path) -> None:
    source = "from tests.hosts.platform.settings import *\nINSTALLED_APPS.remove('workflows_tasks')"
    write_files(tmp_path, {"lone.py": source})
    for command in (["check"], ["backfill", "status"], ["recent_workflows", "status"]):
        code, output = manage(*command, settings="lone", directory=tmp_path, env={"DJANGO_SETTINGS_MODULE": "lone"})
        assert code == 1
        assert output.startswith("INSTALLED_APPS has backfill without workflows_tasks")
        assert output.endswith('Set: INSTALLED_APPS += ["workflows_tasks", "backfill"]\n')
        assert output.count("\n") == 1


def test_another_database_than_postgresql(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "lite.py": "from tests.hosts.platform.settings import *\n"
            "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}}\n"
        },
    )
    code, output = manage("check", settings="lite", directory=tmp_path)
    assert code == 1
    assert "(recent_workflows.E020) Database 'default' is SQLite; flushes would fail on it." in output
    assert "HINT: Keep bots.SavedRun in PostgreSQL 15 or newer." in output


def test_runs_and_table_in_different_databases(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [ElsewhereRouter()]
    said = found()
    assert "(recent_workflows.E021) Runs are written to database 'default' but recent workflows to 'another'" in said
    assert "HINT: Route the app workflows_tasks to the database of the runs." in said
    assert "(backfill.E001) Runs are written to database 'default' but backfills to 'another'; a chunk's rows" in said
    assert "HINT: Route the app backfill to the database of the runs." in said


def test_a_postgresql_that_is_too_old(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(databases=["default"]) == ""
    monkeypatch.setattr(checks, "OLDEST_POSTGRESQL", 99)  # to this server's future every server is old
    said = found(databases=["default"])
    assert "(recent_workflows.E022) Database 'default' is PostgreSQL" in said
    assert "HINT: Upgrade to PostgreSQL 99 or newer." in said
    assert found() == "", "the server is asked only where Django asks it"


def test_beat_entries_that_are_missing(celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(celery_app_in_process.conf, "beat_schedule", {})
    said = found()
    assert "(recent_workflows.W002) Celery beat has no entry for workflows_tasks.tasks.tick" in said
    assert "HINT: Call workflows_tasks.queues.configure(app)" in said


def test_a_beat_entry_under_the_hosts_own_name_will_do(
    celery_app_in_process: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = {f"mine {name}": entry for name, entry in celery_app_in_process.conf.beat_schedule.items()}
    monkeypatch.setitem(celery_app_in_process.conf, "beat_schedule", renamed)
    assert found() == ""


def test_a_mistake_is_said_once(configure: Configure) -> None:
    configure(WORKSPACE_FIELD="nothing")
    assert found().count("(recent_workflows.E011)") == 1


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def of_database() -> str:
    return found(databases=["default"])


def test_a_sound_database(sound: Host) -> None:
    assert of_database() == ""


def test_writes_that_are_not_captured(sound: Host) -> None:
    execute(f'DROP TRIGGER "{ROW_TRIGGER}" ON bots_savedrun')
    said = of_database()
    assert f"(recent_workflows.W010) Rows may become wrong: bots_savedrun: has no trigger {ROW_TRIGGER}" in said
    installation.install()
    assert of_database() == ""


def test_another_number_of_shards_and_another_rule(sound: Host, configure: Configure) -> None:
    configure(SHARDS=5)
    told = r"\(recent_workflows.W010\) Rows may become wrong: SHARDS is 5 in a process on \S+ and 8 in the database"
    assert re.search(told, of_database())
    configure(SHARDS=8, RUN_FILTER=Q(surface=0, uid__gt=""))
    said = of_database()
    assert "(recent_workflows.W010) Rows may become wrong: models, path, RUN_FILTER or GRAINS differ" in said
    assert triggers.COMMAND in said


@pytest.fixture
def unindexed(sound: Host) -> Iterator[None]:
    """No index serves the pages of a workspace."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'run_by_workspace'")
        ((definition,),) = cursor.fetchall()
    execute("DROP INDEX run_by_workspace")
    yield
    execute(definition)


@pytest.fixture
def unapplied(sound: Host) -> Iterator[None]:
    """The host's migrations are not applied yet."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'bots' RETURNING name")
        names = [name for (name,) in cursor.fetchall()]
    yield
    recorder = MigrationRecorder(connection)
    for name in names:
        recorder.record_applied("bots", name)


def test_what_the_next_migrate_may_mend_is_not_said_yet(unindexed: None, unapplied: None) -> None:
    """The checks of ``migrate`` run before it makes the index and installs the trigger."""
    execute(f'DROP TRIGGER "{ROW_TRIGGER}" ON bots_savedrun')
    assert of_database() == ""
    installation.install()


@pytest.mark.parametrize("broken", [Q(nowhere=1), Q(surface="none"), Q(pk__in=[])], ids=str)
@pytest.mark.parametrize("key", ["RUN_FILTER", "BACKFILL_FILTER"])
def test_of_a_broken_filter_only_that_is_said(unindexed: None, configure: Configure, key: str, broken: Q) -> None:
    """What needs the filter, such as the functions' bodies and the indexes, is asked when it is mended."""
    configure(**{key: broken})
    for said in (found(), of_database()):
        assert re.findall(r"\((\w+\.\w\d+)\)", said) == ["recent_workflows.E015"], said
    with pytest.raises(SystemCheckError, match=r"recent_workflows\.E015"):
        call_command("migrate", verbosity=0, skip_checks=False)


def test_row_level_security_that_holds_for_the_role(sound: Host) -> None:
    name = f"limited_{connection.settings_dict['NAME']}"
    execute(
        f'CREATE ROLE "{name}"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "{name}"',
        "ALTER TABLE bots_savedrun ENABLE ROW LEVEL SECURITY",
    )
    assert of_database() == "", "the owner sees every row"
    try:
        execute(f'SET ROLE "{name}"')
        said = of_database()
        assert "(recent_workflows.E030) Row-level security of bots_savedrun holds for" in said
        assert f'ALTER ROLE "{name}" BYPASSRLS' in said
    finally:
        execute("RESET ROLE; ALTER TABLE bots_savedrun DISABLE ROW LEVEL SECURITY")
        execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


@pytest.fixture
def citext(sound: Host) -> Any:
    """The user's column of that type. The extension is not in the wheel's server, so its name stands for it."""
    execute("CREATE DOMAIN citext AS text", "ALTER TABLE bots_savedrun ALTER uid TYPE citext")
    yield
    execute("ALTER TABLE bots_savedrun ALTER uid TYPE varchar(128)", "DROP DOMAIN citext")


def test_a_user_of_whom_two_spellings_are_one(citext: None) -> None:
    said = of_database()
    assert "(recent_workflows.E031) bots.SavedRun.uid is of type citext: two spellings are one to PostgreSQL" in said


def test_a_key_of_another_type_than_its_field_says(sound: Host) -> None:
    """Django's own queries may work all the same, for its literals have no type."""
    table = "workflows_tasks_workspacerecentworkflow"
    execute(f"ALTER TABLE {table} ALTER workspace_id TYPE uuid USING NULL")
    try:
        said = of_database()
        assert (
            "(recent_workflows.E032) The column of bots.SavedRun.workspace is bigint in the database, and uuid" in said
        )
        assert "Give the field the type and the db_collation that its column has" in said
    finally:
        execute(f"ALTER TABLE {table} ALTER workspace_id TYPE bigint USING NULL")


@pytest.mark.parametrize(
    ("index", "statement"),
    [
        ("run_by_workspace", "the search for the newest run of a workspace"),
        ("run_by_user", "the search for the newest run of a user"),
        ("bots_savedrun_parent_version_id%", "finding the runs of a changed parent_version"),
    ],
)
def test_an_index_that_is_missing_is_named_with_the_statement_that_makes_it(
    sound: Host, index: str, statement: str
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE indexname LIKE %s", [index])
        ((name, definition),) = cursor.fetchall()
    execute(f'DROP INDEX "{name}"')
    said = of_database()
    assert f"(recent_workflows.W011) No index of bots_savedrun serves {statement}" in said
    create = re.search(r"or run: (CREATE INDEX CONCURRENTLY [^;]+);", said)
    assert create is not None
    execute(create[1])
    try:
        assert of_database() == ""
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'bots_savedrun'")
            known = {row[0] for row in cursor.fetchall()}
        made = create[1].split(" ON ")[1]
        assert made
        for each in known:
            if each.startswith("bots_savedrun_") and each.endswith("_idx"):
                execute(f'DROP INDEX "{each}"')
        execute(definition)


@pytest.fixture
def partitioned(sound: Host) -> Iterator[None]:
    """The runs' table has partitions, and no index."""
    execute(
        "ALTER TABLE bots_savedrun RENAME TO renamed",
        "CREATE TABLE bots_savedrun (LIKE renamed) PARTITION BY RANGE (id)",
        "CREATE TABLE part_of_runs PARTITION OF bots_savedrun DEFAULT",
    )
    yield
    execute("DROP TABLE bots_savedrun", "ALTER TABLE renamed RENAME TO bots_savedrun")


def test_a_partitioned_table_gets_its_index_by_what_it_accepts(partitioned: None) -> None:
    """The steps that the hint names are taken."""
    for _, create in indexes.missing(hosts.host()):
        found = re.search(r'^(CREATE INDEX ("\w+") ON ONLY "bots_savedrun" \(.+?\)); then for each partition', create)
        assert found is not None, create
        columns = create[create.index("(") :].split(")")[0]
        execute(found[1], f"CREATE INDEX CONCURRENTLY a_part ON part_of_runs {columns})")
        execute(f"ALTER INDEX {found[2]} ATTACH PARTITION a_part", f"ALTER INDEX a_part RENAME TO of_{found[2][1:-1]}")
    assert list(indexes.missing(hosts.host())) == []


def test_every_check_has_its_test() -> None:
    """So that a new one is not forgotten here."""
    apps_of_ours = (workflows_tasks, backfill)
    source = "".join(path.read_text() for app in apps_of_ours for path in Path(str(app.__file__)).parent.glob("*.py"))
    ids = set(re.findall(r"recent_workflows\.([EW]\d{3})", source)) | set(re.findall(r"backfill\.E\d{3}", source))
    ids |= {f"E{int(number):03}" for number in re.findall(r"_error\([^)]*?\b(\d\d),?\s*\)", source, re.DOTALL)}
    here = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert len(ids) >= 12
    assert not [number for number in ids if number not in here]
