"""What a save costs: no SQL of ours, and no round trip while a flush is known to come."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext
from opentelemetry.sdk.trace import TracerProvider

from tests.conftest import Configure
from tests.gate import Gate
from tests.hosts.adapter import Host
from tests.integration.nudge.conftest import Taken, perform
from tests.oracle import flush_all
from workflows_tasks.capture import nudge
from workflows_tasks.projection import backlog

pytestmark = pytest.mark.host_independent


def statements(run: Any, live: Host) -> list[str]:
    """The SQL of a save in a transaction, commit included; parameters, which differ, are left out."""
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        live.save_again(run)
    return [query["sql"].split(" ", 1)[0] for query in captured]


def pending() -> int:
    return sum(shard.pending for shard in backlog.status())


def test_a_save_does_no_sql_of_ours(live: Host, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    flush_all()
    watched = statements(run, live)
    assert pending()
    with monkeypatch.context() as unwatched:
        for signal in (pre_save, post_save):
            unwatched.setattr(signal, "receivers", [])
            signal.sender_receivers_cache.clear()
        alone = statements(run, live)
    for signal in (pre_save, post_save):
        signal.sender_receivers_cache.clear()
    assert watched == alone


def test_a_deferred_column_is_not_loaded_to_nudge(live: Host, run: Any, taken: Taken) -> None:
    """Without the workspace at hand there is no nudge; the tick finds the change."""
    flush_all()
    taken()
    partial = type(run)._base_manager.only("pk").get(pk=run.pk)
    relevant = next(iter(live.shown))
    setattr(partial, relevant, live.hidden[relevant])
    with CaptureQueriesContext(connection) as captured:
        partial.save(update_fields=[relevant])
    assert not any(query["sql"].startswith("SELECT") for query in captured)
    assert taken() == []
    assert pending()


def test_a_transaction_costs_a_round_trip_a_shard_however_many_runs_it_saves(
    live: Host, run: Any, connected: Gate, configure: Configure
) -> None:
    """And none while the gates are closed."""
    configure(FLUSH_WINDOW_S=15.0)
    workspaces = [live.make_workspace() for _ in range(40)]
    before = connected.bursts

    def save_forty() -> int:
        with transaction.atomic():
            for workspace in workspaces:
                live.make_run(workspace=workspace, workflow=live.make_workflow(), user=live.make_user())
        return connected.bursts - before

    assert save_forty() >= 8
    nudge._due_s.update(dict.fromkeys(range(8), float("inf")))
    before = connected.bursts
    assert save_forty() == 0


def test_a_trace_travels_in_the_message_at_no_round_trip(live: Host, run: Any, connected: Gate, taken: Taken) -> None:
    def save() -> tuple[int, Any]:
        before = connected.bursts
        live.save_again(run)
        bursts = connected.bursts - before
        (message,) = taken()
        perform(message)
        taken()
        nudge.reset()
        nudge.unmark(message.payload[0][0])
        return bursts, message.headers

    save()  # a connection's greeting is the first one's
    bursts, headers = save()
    with TracerProvider().get_tracer("a host").start_as_current_span("request") as request:
        traced_bursts, traced_headers = save()
    assert traced_bursts == bursts > 0
    assert "traceparent" not in headers
    assert f"{request.get_span_context().trace_id:032x}" in traced_headers["traceparent"]


def test_what_raises_after_the_commit_does_not_reach_the_save(
    live: Host, run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours, that is. With and without a transaction around the save."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken, as a test says")

    monkeypatch.setattr(nudge, "_due_s", {})
    monkeypatch.setattr(nudge, "send", broken)
    monkeypatch.setattr(nudge, "_take_marker", lambda _: None)
    live.save_again(run)
    with transaction.atomic():
        live.save_again(run)
    assert sum("broken, as a test says" in record.getMessage() for record in caplog.records) == 2
    assert pending()
