"""Each action: what it prints, what it answers a script, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class
from django.db import connection, connections

from demo.servers import free_port
from tests.commands import ROOT, python
from tests.conftest import Configure
from tests.hosts.adapter import Host
from tests.integration.comparison.corruptions import CORRUPTIONS, ThreeWorkspaces, lose_changes
from tests.oracle import assert_exact, flush_all
from workflows_tasks import history
from workflows_tasks import host as hosts
from workflows_tasks.capture import installation, triggers
from workflows_tasks.capture.tables import tables
from workflows_tasks.capture.triggers import ROW_TRIGGER
from workflows_tasks.errors import InvalidArgument
from workflows_tasks.management.actions import SHOWN
from workflows_tasks.models import CHANGES, Installation

pytestmark = pytest.mark.host_independent

ACTIONS = ["status", "health", "flush", "verify", "triggers", "metrics"]


@pytest.fixture
def three(live: Host) -> ThreeWorkspaces:
    made = ThreeWorkspaces(live)
    installation.install()
    return made


def run_command(*arguments: str) -> tuple[int, str]:
    """Exit status and output."""
    out = StringIO()
    try:
        call_command("recent_workflows", *arguments, stdout=out, no_color=True)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def run_json(*arguments: str) -> tuple[int, Any]:
    """The same with ``--json``."""
    code, output = run_command(*arguments, "--json")
    return code, json.loads(output)


def test_status_shows_each_shard_errors_and_what_is_refused(three: ThreeWorkspaces) -> None:
    three.run(5)
    code, shown = run_command("status")
    assert code == 0
    assert "commit to visible" in shown
    assert "FAIL  tick: never" in shown
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE \"{CHANGES}\" SET error = E'no\\nkey', tries = 2, retry_at = now() + interval '1 h'")
    _, shown = run_command("status")
    assert "quarantined: run " in shown
    assert r"no\nkey" in shown, "on one line"
    assert run_json("status")[1]["in_quarantine"] > 0


def test_status_says_why_changes_wait(three: ThreeWorkspaces) -> None:
    """The same as ``health``: the queue and the worker to look at."""
    three.run(5)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE \"{CHANGES}\" SET at = at - interval '30 s'")
    why = "no responding worker consumes the queue 'test-"
    code, shown = run_command("status")
    assert code == 0
    assert re.search(
        rf"^FAIL  changes: .* waiting in shard.*, the oldest for 3\d\.\d s; .* are allowed: {why}", shown, re.MULTILINE
    )
    assert why in {finding["part"]: finding["why"] for finding in run_json("status")[1]["findings"]}["changes"]


def test_flush_says_what_it_did_and_that_nothing_is_pending(three: ThreeWorkspaces) -> None:
    flush_all()
    assert run_command("flush") == (0, "nothing is pending\n")
    three.run(5)
    assert "2 rows written; nothing from before is pending" in run_command("flush")[1]
    assert_exact(three.host)
    run = three.run(6)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE \"{CHANGES}\" SET error = 'x', retry_at = now() + interval '1 h'")
    assert run_command("flush") == (0, "nothing is pending\n")
    assert "from quarantine" in run_command("flush", "--retry")[1]
    assert {row.run for row in assert_exact(three.host)} == {run.pk}


def test_verify_agrees(three: ThreeWorkspaces) -> None:
    three.settle(5)
    assert run_command("verify") == (0, "table and runs agree\n")
    code, found = run_json("verify")
    assert (code, found["agrees"], found["differences"]) == (0, True, [])


def test_verify_says_what_waits_for_how_long_and_answers_scripts_by_a_status_of_its_own(three: ThreeWorkspaces) -> None:
    three.settle(5)
    three.run(6)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE \"{CHANGES}\" SET at = at - interval '190 s'")
    code, shown = run_command("verify")
    assert code == 2
    first = shown.splitlines()[0]
    assert first.startswith("table and runs agree, except ")
    assert re.search(r"\d waiting changes?, the oldest 190 s \(2 rows\)$", first)
    code, found = run_json("verify")
    assert (code, found["agrees"], found["drift"], found["waiting"]) == (2, False, 0, 2)
    assert found["oldest_change_s"] > 189


def test_verify_says_which_rows_wait_for_a_backfill_and_repairs_none_of_them(three: ThreeWorkspaces) -> None:
    three.run(5)
    lose_changes()
    three.run(6, workspace=three.beyond)
    Installation.objects.update(lacks_history=True)
    for arguments in ((), ("--repair",)):
        code, shown = run_command("verify", *arguments)
        assert code == 2
        first, *_ = shown.splitlines()
        assert re.match(r"table and runs agree, except \d+ waiting changes?, the oldest ", first), first
        assert first.endswith(
            "(2 rows), except 2 rows of history that is not filled yet (run: manage.py backfill start)"
        ), first
        assert re.findall("  (unfilled|waiting)  ", shown) == ["unfilled"] * 2 + ["waiting"] * 2
    code, found = run_json("verify")
    assert (code, found["agrees"], found["drift"], found["unfilled"], found["waiting"]) == (2, False, 0, 2, 2)
    flush_all()
    code, shown = run_command("verify")
    assert (code, shown.splitlines()[0]) == (
        2, "table and runs agree, except 2 rows of history that is not filled yet (run: manage.py backfill start)"
    )  # fmt: skip
    assert "warn  history: the table lacks runs from before capture" in run_command("status")[1]


def test_verify_names_drift_first_repairs_it_and_agrees(three: ThreeWorkspaces) -> None:
    for _, plant in list(CORRUPTIONS.values())[:2]:
        plant(three, three.host.make_workflow())
    lose_changes()
    code, shown = run_command("verify")
    assert code == 1
    assert shown.splitlines()[0].startswith("2 differences that no change explains (")
    assert "verify --repair puts them right" in shown
    code, shown = run_command("verify", "--repair")
    assert (code, "repaired" in shown) == (1, True)
    assert run_command("verify")[0] == 0
    assert_exact(three.host)


def test_verify_of_a_range(three: ThreeWorkspaces) -> None:
    three.settle(5)
    three.row(three.workflow).delete()
    first, middle = (history.workspace_text(each) for each in (three.earlier, three.workspace))
    assert run_command("verify", f"--workspaces={first}..{first}")[0] == 0
    assert run_command("verify", f"--workspaces={middle}..{middle}")[0] == 1
    assert run_command("verify", f"--workspaces={first}")[0] == 0
    assert run_command("verify", f"--workspaces={middle}")[0] == 1
    with pytest.raises(CommandError, match="is no range of workspaces"):
        run_command("verify", "--workspaces=nonsense")


def a_uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError as error:
        raise InvalidArgument(text) from error


def a_number(text: str) -> str:
    try:
        return str(int(text))
    except ValueError as error:
        raise InvalidArgument(text) from error


A, B = "6a1f0c2e-0000-4000-8000-000000000001", "6a1f0c2e-0000-4000-8000-000000000002"
SEVERAL, NONE = (
    "could be a range or a key, .*; write A..B, or A..A for one",
    "is no range of workspaces; write A..B, .*one",
)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        (a_number, "7", ("7", "7")),
        (a_number, "7-9", ("7", "9")),
        (a_number, "7..9", ("7", "9")),
        (a_number, "-9", (None, "9")),
        (a_number, "7-", ("7", None)),
        (a_number, "seven", NONE),
        (a_number, "", NONE),
        (a_uuid, A, (A, A)),
        (a_uuid, f"{A}..{B}", (A, B)),
        (a_uuid, f"{A}..", (A, None)),
        (a_uuid, "seven", NONE),
        (str, "kitchen", ("kitchen", "kitchen")),
        (str, "our-kitchen", SEVERAL),
        (str, "our-old-kitchen", SEVERAL),
        (str, "our-kitchen..our-kitchen", ("our-kitchen", "our-kitchen")),
        (str, "kitchen-", ("kitchen", None)),
    ],
)
def test_a_range_or_one_workspace_by_keys_of_any_type(
    monkeypatch: pytest.MonkeyPatch, key: Callable[[str], str], text: str, expected: Any
) -> None:
    """One way to write it serves every type. What could be read in two ways is refused."""
    monkeypatch.setattr(history, "workspace_text", key)
    if isinstance(expected, str):
        with pytest.raises(InvalidArgument, match=expected):
            history.parse_range(text)
    else:
        found = history.parse_range(text)
        assert (found.first, found.last) == expected


@pytest.fixture
def many(three: ThreeWorkspaces) -> ThreeWorkspaces:
    """More differences than are printed."""
    for number in range(SHOWN + 5):
        three.run(number, workflow=three.host.make_workflow())
    lose_changes()
    return three


def test_output_is_bounded_unless_all_is_asked_for(many: ThreeWorkspaces) -> None:
    differences = 2 * (SHOWN + 5)
    code, shown = run_command("verify")
    assert code == 1
    assert len(shown.splitlines()) == 2 + 1 + SHOWN + 1
    assert f"… and {differences - SHOWN} more; --all prints all" in shown
    assert len(run_command("verify", "--all")[1].splitlines()) == 2 + 1 + differences
    key = str(many.key_of(many.workspace))
    assert len(run_command("explain", key)[1].splitlines()) == 1 + 1 + SHOWN + 1
    assert len(run_command("explain", key, "--all")[1].splitlines()) == 1 + 1 + SHOWN + 5


def test_explain_shows_a_page_beside_the_truth(three: ThreeWorkspaces) -> None:
    key, user = str(three.key_of(three.workspace)), three.host.user_text(three.user)
    assert run_command("explain", key) == (0, "no workflow was used there, and none is stored\n")
    three.settle(5)
    three.run(6, workflow=three.host.make_workflow())
    code, shown = run_command("explain", key)
    assert code == 2
    assert shown.splitlines()[0] == "2 workflows: 1 waiting, 1 agrees"
    assert [line.split()[1] for line in shown.splitlines()[2:]] == ["waiting", "agrees"]
    code, found = run_json("explain", key, user)
    assert (code, found["waiting"], found["agrees"], len(found["rows"])) == (2, 1, 1, 2)
    assert {row["uid"] for row in found["rows"]} == {user}


def test_explain_shows_what_differs_first(three: ThreeWorkspaces) -> None:
    """A row far down the page would else be left out."""
    three.settle(5)
    three.row(three.workflow).delete()
    for number in range(SHOWN):
        three.settle(6 + number, workflow=three.host.make_workflow())
    lose_changes()
    code, shown = run_command("explain", str(three.key_of(three.workspace)))
    assert (code, shown.splitlines()[0]) == (1, f"{SHOWN + 1} workflows: 1 drift, {SHOWN} agree")
    assert shown.splitlines()[2].split()[:3] == [str(three.workflow.pk), "drift", "missing"]


def test_triggers_without_a_flag_says_what_is_wrong(three: ThreeWorkspaces) -> None:
    code, shown = run_command("triggers")
    assert code == 0
    assert "WRONG" not in shown
    table = three.host.run_model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f'DROP TRIGGER "{ROW_TRIGGER}" ON "{table}"')
    try:
        code, shown = run_command("triggers")
        assert code == 1
        assert f"{table}: has no trigger {ROW_TRIGGER}" in shown
        assert triggers.COMMAND in shown
        assert run_json("triggers")[0] == 1
    finally:
        code, shown = run_command("triggers", "--install")
    assert code == 0
    assert f"{table}: done" in shown


def test_triggers_off_and_on_again(three: ThreeWorkspaces) -> None:
    code, shown = run_command("triggers", "--off")
    assert (code, triggers.COMMAND in shown) == (0, True)
    three.run(5)
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM "{CHANGES}"')
        assert cursor.fetchone() == (0,)
    assert run_command("triggers")[0] == 1
    assert run_command("triggers", "--install")[0] == 0


def test_triggers_sql_is_what_an_installation_executes(three: ThreeWorkspaces) -> None:
    _, shown = run_command("triggers", "--sql")
    assert shown.count(ROW_TRIGGER) >= len(tables(hosts.host()))
    assert run_json("triggers", "--sql")[1] == installation.statements()


@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "metrics"])
def test_every_action_has_json(three: ThreeWorkspaces, action: str) -> None:
    code, found = run_json(action)
    assert code in {0, 1}
    assert found is not None


@pytest.fixture
def no_redis(configure: Configure) -> None:
    configure(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")


@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "health"])
def test_it_works_without_redis(three: ThreeWorkspaces, no_redis: None, action: str) -> None:
    assert run_command(action)[0] == 0


@pytest.fixture(params=["workflows_tasks_workspacerecentworkflow", "workflows_tasks_shard", CHANGES])
def missing(request: pytest.FixtureRequest, three: ThreeWorkspaces) -> Iterator[str]:
    """A table of ours that is not there."""
    with connection.cursor() as cursor:
        cursor.execute(f'ALTER TABLE "{request.param}" RENAME TO renamed')
        yield request.param
        cursor.execute(f'ALTER TABLE renamed RENAME TO "{request.param}"')


@pytest.mark.parametrize("action", ["status", "verify"])
def test_an_unmigrated_database_is_one_line_with_the_fix(missing: str, action: str) -> None:
    fix = triggers.COMMAND if missing == CHANGES else "manage.py migrate"
    with pytest.raises(CommandError, match=fix) as refused:
        run_command(action)
    assert "\n" not in str(refused.value)


@pytest.fixture
def empty(live: Host) -> Iterator[str]:
    """The address of a database where nobody has run migrate."""
    name = f"empty_{connection.settings_dict['NAME']}"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
    yield f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{name}"
    with connection.cursor() as cursor:
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def test_before_the_first_migrate_each_command_is_one_line_with_the_fix(empty: str) -> None:
    ours = [["recent_workflows", *action] for action in (["status"], ["verify"], ["explain", "1"], ["flush"])]
    for command in (*ours, *(["backfill", action] for action in ("status", "plan", "start"))):
        code, said = python("-m", "django", *command, env={"DATABASE_URL": empty})
        assert (code, said.count("\n")) == (1, 1), said
        assert "run: manage.py migrate" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["explain", "nonsense"], "workspace is 'nonsense', no value of"),
        (["explain", "1", ""], "names nobody"),
        (["verify", "--workspaces=1;DROP TABLE x-2"], "is no range of workspaces"),
        (["verify", "--workspaces=1-\0"], "is no range of workspaces"),
    ],
)
def test_an_operators_mistake_is_no_traceback(three: ThreeWorkspaces, arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        run_command(*arguments)


@pytest.mark.parametrize("command", ["recent_workflows", "backfill"])
def test_djangos_own_options_before_the_action_or_after_it(command: str) -> None:
    parser = load_command_class(get_commands()[command], command).create_parser("manage.py", command)
    given = ["--settings=x", "--verbosity", "2", "--no-color", "--traceback"]
    after, before, between = (
        vars(parser.parse_args(arguments))
        for arguments in (["status", *given], [*given, "status"], [*given[:1], "status", *given[1:]])
    )
    assert after == before == between
    assert (after["settings"], after["verbosity"], after["no_color"], after["skip_checks"]) == ("x", 2, True, False)
    assert parser.parse_args(["status"]).verbosity == 1


def test_no_database_is_no_traceback(three: ThreeWorkspaces) -> None:
    connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections["default"].settings_dict, "PORT", str(free_port()))
        for action in ("status", "verify", "flush"):
            with pytest.raises(CommandError, match=r"OperationalError|refused"):
                run_command(action)
        assert run_command("health")[0] == 1


def test_a_closed_pipe_is_no_traceback(many: ThreeWorkspaces) -> None:
    """``verify --all | head -1``"""
    url = os.environ["DATABASE_URL"]
    name = connection.settings_dict["NAME"]
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "recent_workflows", "verify", "--all"], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DATABASE_URL": f"{url.rpartition('/')[0]}/{name}"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 141
    assert "Traceback" not in said
    assert "BrokenPipe" not in said
