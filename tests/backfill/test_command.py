"""``manage.py backfill`` as an operator types it, output and exit status included."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.backends.postgresql.psycopg_any import is_psycopg3

from backfill import control, leases
from tests.backfill.given import (
    CHUNK,
    History,
    assert_complete,
    carry_out,
    claim_chunk,
    plan_backfill,
    refused,
    start_backfill,
)
from tests.hosts.adapter import Host
from tests.threads import beside

pytestmark = pytest.mark.host_independent


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


def assert_says(output: str, *patterns: str) -> None:
    for pattern in patterns:
        assert re.search(pattern, output), f"{pattern!r} is missing:\n{output}"


def test_plan_prints_its_figures(history: History) -> None:
    code, output = backfill("plan", "--chunk-size", str(CHUNK))
    assert code == 0
    assert_says(
        output,
        r"182 runs of 14 workspaces, counted at \d{4}-",
        r"5 chunks of up to 40 runs; verified in \d ranges",
    )
    plan = as_json("plan", "--chunk-size", str(CHUNK))
    assert plan["runs"] == sum(chunk["runs"] for chunk in plan["chunks"]) == history.runs


def test_start_enqueues_and_says_how_to_watch(history: History) -> None:
    code, output = backfill("start", "--concurrency", "3", "--chunk-size", "50")
    enqueued = control.get()
    watch = f"watch python manage.py backfill status {enqueued.pk}"
    assert (code, output) == (0, f"backfill {enqueued.pk} is enqueued. Watch it: {watch}\n")
    assert (enqueued.concurrency, enqueued.chunk_size) == (3, 50)
    assert "@" in enqueued.actor
    key = history.text(history.light[0])
    assert as_json("start", "--workspaces", f"{key}-{key}")["first_workspace"] == key


def test_status_while_it_works(history: History) -> None:
    running = plan_backfill()
    lease = claim_chunk(running)
    code, output = backfill("status")
    assert code == 0
    assert_says(
        output,
        rf"backfill {running.pk}: running, started by a test at ",
        r"filled   \[-{30}\]   0\.0 %  0 of 182 runs",
        r"measuring, 1 of 2 chunks at a time, 0 rows written",
        r"chunks: 4 pending, 1 running",
        rf"chunk {lease.chunk.pk} \(workspaces? .*\): 0 % of \d+, .*:\d+",
    )
    assert as_json("status")["active"][0]["chunk"] == lease.chunk.pk


def test_wait_prints_each_change_and_ends_with_the_backfill(history: History) -> None:
    running = plan_backfill()
    with beside() as start:
        waiting = start(lambda: backfill("status", "--wait"))
        carry_out(running)
        code, output = waiting.result(timeout=30)
    assert code == 0
    assert_says(output, rf"backfill {running.pk}: succeeded, started by", r"verified \[#{30}\] 100.0 %")
    lines = [line for line in output.splitlines() if "% filled" in line]
    assert len(set(lines)) == len(lines), "a line for each change"


def test_wait_ends_when_it_is_paused(history: History) -> None:
    control.pause(start_backfill().pk, actor="a test")
    assert backfill("status", "--wait")[0] == 3
    assert as_json("status", "--wait")["status"] == "paused"


def test_figures_of_one_that_waits_say_nothing_of_before(history: History) -> None:
    """A chunk that waits for its retry is shown with its error, and nobody asks whether a worker is running."""
    running = plan_backfill(concurrency=1)
    leases.fail(claim_chunk(running), "OperationalError: canceling statement due to lock timeout")
    _, output = backfill("status")
    assert_says(output, r"to be tried again: chunk \d+ \(.*\): OperationalError: canceling statement")
    assert "is one running" not in output
    assert "runs/s" not in output
    assert "measuring" not in output


def test_status_of_each_ending(history: History) -> None:
    waits = start_backfill()
    assert backfill("pause")[0] == 0
    code, output = backfill("status", str(waits.pk))
    assert (code, "paused" in output, "at a time" in output) == (3, True, False)
    assert backfill("resume")[0] == 0
    assert_complete(history, carry_out(waits))
    code, output = backfill("status")
    assert code == 0
    assert_says(output, r"verified \[#{30}\] 100\.0 %  182 of 182 runs", r"\d+ rows written in 0:00:\d\d")
    start_backfill()
    assert backfill("cancel")[0] == 0
    assert backfill("status")[0] == 1


def test_status_names_what_failed_and_resume_takes_it_up(history: History) -> None:
    bad = history.newest(history.light[0])
    with refused(bad):
        failed = carry_out(start_backfill()).backfill
    code, output = backfill("status")
    assert code == 1
    kind = "ProgrammingError" if is_psycopg3 else "InternalError"
    assert_says(output, rf"failed: chunk \d+ \(.*; run {bad}\): {kind}: refused, whoever asks")
    assert backfill("resume")[0] == 0
    assert_complete(history, carry_out(failed))


def test_concurrency_is_changed_while_it_runs(history: History) -> None:
    plan_backfill()
    code, output = backfill("concurrency", "5")
    assert (code, "0 of 5 chunks at a time" in output) == (0, True)
    with pytest.raises(CommandError, match="concurrency is 0; give a whole number from 1 to 1,000"):
        backfill("concurrency", "0")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("status",), "there is no backfill yet; start one: manage.py backfill start"),
        (("pause", "99"), "there is no backfill 99"),
        (("start", "--workspaces", "a-b"), "'a-b' is no range of workspaces"),
        (("start", "--chunk-size", "0"), "chunk size is 0; give a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_fix(live: Host, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(CommandError, match=re.escape(says)):
        backfill(*arguments)
