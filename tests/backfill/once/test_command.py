"""``manage.py backfill`` as an operator types it, output and exit status included."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from backfill import leases, runner
from tests.backfill.history import CHUNK, History, assert_complete, carried_out, planned, started
from tests.backfill.test_failures import refused
from tests.commands import ROOT, manage
from tests.hosts import settings_module
from tests.hosts.adapter import Host
from tests.waiting import until
from workflows_tasks.models import WorkspaceRecentWorkflow

SETTINGS = settings_module("platform")


def backfill(*arguments: str) -> tuple[int, str]:
    """Exit status and output of the command, in this process."""
    out = StringIO()
    code: Any = 0
    try:
        call_command("backfill", *arguments, stdout=out)
    except SystemExit as exit_:
        code = exit_.code
    return code, out.getvalue()


def as_json(*arguments: str) -> Any:
    return json.loads(backfill(*arguments, "--json")[1])


def test_plan_prints_chunks_histogram_heaviest_advice_and_an_estimate(history: History) -> None:
    code, output = backfill("plan", "--chunk-size", str(CHUNK))
    assert code == 0
    for expected in (
        r"182 runs of 14 workspaces, counted at \d{4}-",
        r"5 chunks of at most 40 runs \(the largest has 40\), 2 at a time; verified in \d ranges",
        r"about 0:00:01 of filling",
        r"chunk +first workspace +past run +last workspace +up to run +runs",
        r"100\+ +1 +130 +#{30}",
        r"The heaviest:\n +workspace +runs +share\n +\d+ +130 +71\.4 %",
        r"Counting reads the runs by: ",
        r"CREATE INDEX CONCURRENTLY recent_workflows_history ON",
    ):
        assert re.search(expected, output), f"{expected!r} is missing:\n{output}"


def test_plan_for_machines(history: History) -> None:
    found = as_json("plan", "--chunk-size", str(CHUNK))
    assert found["runs"] == sum(chunk["runs"] for chunk in found["chunks"]) == history.runs
    assert found["advice"]["index_bytes"] >= 0
    assert as_json("start", "--dry-run", "--chunk-size", str(CHUNK))["runs"] == history.runs


def test_start_enqueues_and_says_how_to_watch(history: History) -> None:
    code, output = backfill("start", "--parallel", "3", "--chunk-size", "50")
    run = runner.get()
    assert (code, output) == (
        0,
        f"backfill {run.pk} is enqueued. Watch it: manage.py backfill status {run.pk} --watch\n",
    )
    assert (run.parallel, run.chunk_size) == (3, 50)
    assert "@" in run.actor


def test_status_while_it_works(history: History) -> None:
    run = planned()
    lease = leases.claim(run.pk)
    assert lease is not None
    code, output = backfill("status")
    assert code == 0
    for expected in (
        rf"backfill {run.pk}: running, started by a test at ",
        r"filled   \[-{30}\]   0\.0 %  0 of 182 runs",
        r"measuring, 2 of 2 at a time, 0 rows written",
        r"chunks: 4 pending, 1 running",
        rf"chunk {lease.chunk.pk} \(workspaces? .*\): 0 % of \d+, .*:\d+",
    ):
        assert re.search(expected, output), f"{expected!r} is missing:\n{output}"
    assert as_json("status")["active"][0]["chunk"] == lease.chunk.pk


def test_status_of_each_ending(history: History) -> None:
    run = started()
    assert backfill("pause")[0] == 0
    code, output = backfill("status", str(run.pk))
    assert (code, "paused" in output) == (3, True)
    assert backfill("resume")[0] == 0
    assert_complete(history, carried_out(run))
    code, output = backfill("status")
    assert code == 0
    assert re.search(r"verified \[#{30}\] 100\.0 %  182 of 182 runs", output)
    started()
    assert backfill("cancel")[0] == 0
    assert backfill("status")[0] == 1


def test_status_names_what_failed_and_retry_takes_it_up(history: History) -> None:
    bad = history.newest(history.light[0])
    with refused([bad]):
        run = carried_out(started()).run
    code, output = backfill("status")
    assert code == 1
    assert re.search(rf"failed: chunk \d+ \(.*runs .*\b{bad}\b.*\): IntegrityError: .*refused", output), output
    assert backfill("retry")[0] == 0
    assert_complete(history, carried_out(run))


def test_parallel_is_changed_while_it_runs(history: History) -> None:
    planned()
    code, output = backfill("parallel", "5")
    assert (code, "5 of 5 at a time" in output) == (0, True)
    with pytest.raises(CommandError, match="parallel is 0; give a whole number from 1 to 1,000"):
        backfill("parallel", "0")


def test_verify_finds_and_repairs(history: History) -> None:
    assert_complete(history, carried_out(started()))
    assert backfill("verify") == (0, "table and runs agree\n")
    WorkspaceRecentWorkflow.objects.filter(uid="").first().delete()
    code, output = backfill("verify")
    assert (code, "1 differences; run again with --repair" in output) == (1, True)
    assert as_json("verify", "--repair")["repaired"] is True
    assert backfill("verify") == (0, "table and runs agree\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("status",), "there is no backfill yet; start one: manage.py backfill start"),
        (("pause", "99"), "there is no backfill 99"),
        (("start", "--workspaces", "a-b"), "'a-b' is no range of workspaces"),
        (("start", "--since", "yesterday"), "is no time; write 2026-01-31"),
        (("start", "--since", "2026-13-01"), "month must be in 1..12"),
        (("start", "--since", "2999-01-01"), "yet to come"),
        (("start", "--chunk-size", "0"), "chunk size is 0; give a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_fix(live: Host, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(CommandError, match=re.escape(says)):
        backfill(*arguments)


def test_every_action_has_help() -> None:
    code, output = manage("backfill", "--help", settings=SETTINGS)
    assert code == 0
    for action in ("plan", "start", "status", "pause", "resume", "cancel", "retry", "parallel", "verify"):
        assert re.search(rf"^ +{action} +\w", output, re.MULTILINE), output


def test_ctrl_c_while_watching_leaves_it_going_and_says_how_to_come_back(
    history: History, node_env: dict[str, str]
) -> None:
    """On a terminal of its own, which is redrawn."""
    run = planned()
    terminal, inner = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "django", "backfill", "status", "--watch"],
        cwd=ROOT, env={**os.environ, **node_env, "PYTHONPATH": str(ROOT)}, stdout=inner, stderr=inner,
    )  # fmt: skip
    os.close(inner)
    os.set_blocking(terminal, False)
    shown = ""

    def shows(what: str) -> bool:
        nonlocal shown
        with suppress(OSError):  # nothing to read yet; or its end of the terminal is closed
            while more := os.read(terminal, 65_536):
                shown += more.decode()
        return what in shown

    try:
        until(lambda: shows("F\x1b[J") or watching.poll() is not None, within_s=40)  # up some lines, those below away
        assert watching.poll() is None, shown
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
        shows("Come back")
    finally:
        watching.kill()
        watching.wait()
        os.close(terminal)
    assert f"backfill {run.pk}: running" in shown
    assert f"backfill {run.pk} goes on. Come back: manage.py backfill status {run.pk} --watch" in shown
    assert "Traceback" not in shown
    assert runner.get(run.pk).status == "running"


def test_whoever_is_in_no_list_of_users_may_pause_it_too(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a number."""
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    run = started()
    assert backfill("pause")[0] == 0
    assert run.events.get(what="pause").actor.startswith("uid 54321@")
