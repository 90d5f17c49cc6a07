"""SIGKILL and SIGSTOP before and after each statement of a flush and of a fill; the stopped one goes on afterwards.

``KILL_ALL=1`` in the environment strikes at every statement. The suite strikes after each by SIGKILL, which is before
the next, and stops at some of them: the server takes a moment to end a session that stands still.
"""

from __future__ import annotations

import itertools
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import pytest
from django.db import DatabaseError, InterfaceError, connection

from demo.servers import die_with_parent
from tests.conftest import Configure
from tests.hosts.adapter import Host, moment
from tests.oracle import assert_exact
from tests.sessions import execute
from tests.waiting import until
from workflows_tasks import conf, history
from workflows_tasks.keys import shard_of
from workflows_tasks.models import CHANGES, WorkspaceRecentWorkflow
from workflows_tasks.projection import backlog
from workflows_tasks.projection.flush import flush

ALL = "KILL_ALL" in os.environ

pytestmark = [pytest.mark.host_independent, pytest.mark.timeout(600 if ALL else 90)]

TIME_LIMIT_S = {signal.SIGKILL: 30.0, signal.SIGSTOP: 2.0}
"""``FLUSH_TIME_LIMIT_S``. The server ends a flush's session that has stood still for half of it. A slow machine must
not reach that before the flush is struck. So it is short only where one stands still and is waited for."""

LIMITS_S = {"statement_s": 5.0, "lock_s": 2.0, "idle_s": 1.0}
"""Of the fill's transaction, likewise."""

SESSION_ENDED = 3
"""Exit status of a fork whose session was ended."""

Act = Callable[[], object]


class Workspace:
    """Some of its rows rise, come down, go and come when ``change`` is called."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._here, self._user = host.make_workspace(), host.make_user()
        text = history.workspace_text(self._here)
        self.shard = shard_of(text, conf.settings().shards)
        self.range = history.Range(first=text, last=text)
        self._workflows = [host.make_workflow() for _ in range(4)]
        self._stays = self._run(2, 4)
        self.older, self.latest, self.only = [self._stays] * 3

    def _run(self, workflow: int, minute: float) -> Any:
        return self.host.make_run(
            workspace=self._here, workflow=self._workflows[workflow], user=self._user, used_at=moment(minute)
        )

    def settle(self) -> None:
        """Rows that are true, and nothing in the log."""
        self.older, self.latest, self.only = self._run(0, 1), self._run(0, 2), self._run(1, 3)
        flush(self.shard)
        execute(f"DELETE FROM {CHANGES}")  # of the other shards, which have no workspace here
        assert_exact(self.host)

    def change(self) -> None:
        """One row comes down, one goes, one rises, one comes."""
        self.latest.delete()
        self.only.delete()
        self.host.save_again(self._stays)
        self._run(3, 5)

    def empty(self) -> None:
        """The workspace's history is not filled, and no change is known of it."""
        self.settle()
        execute(f'DELETE FROM "{WorkspaceRecentWorkflow._meta.db_table}"')

    def fill(self) -> None:
        """What a backfill does with a chunk: fill it, and look over it in a later transaction."""
        history.fill(self.range, limits=history.limits(**LIMITS_S))
        with history.read_committed(history.limits(**LIMITS_S)):
            history.recheck_filled(self.range)


@pytest.fixture
def workspace(live: Host, configure: Configure) -> Workspace:
    configure(FLUSH_WINDOW_S=0.2, FLUSH_TIME_LIMIT_S=TIME_LIMIT_S[signal.SIGKILL])
    return Workspace(live)


def statements_of(act: Act) -> list[str]:
    """The statements of an act that nobody disturbs."""
    texts: list[str] = []

    def note(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        texts.append(str(sql))
        return execute(sql, *rest)

    with connection.execute_wrapper(note):
        act()
    return texts


def strike(act: Act, *, at: int, after: bool, sig: signal.Signals) -> int | None:
    """Let a fork act, and kill or stop itself at a statement; returns its id if it stands still."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside other threads, whose locks it needs not
        pid = os.fork()
    if not pid:
        _be_struck(act, at, after, sig)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return pid
    assert os.waitstatus_to_exitcode(status) == (-sig if sig == signal.SIGKILL else 0)
    return None


def _be_struck(act: Act, at: int, after: bool, sig: signal.Signals) -> NoReturn:
    status, count = 1, itertools.count()

    def struck(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        is_it = next(count) == at
        if is_it and not after:
            os.kill(os.getpid(), sig)
        result = execute(sql, *rest)
        if is_it and after:
            os.kill(os.getpid(), sig)
        return result

    try:
        die_with_parent()  # also while it stands still
        parents, connection.connection = connection.connection, None  # kept: closing it would end the parent's session
        with connection.execute_wrapper(struck):
            act()
        status = 0 if parents else 1
    except (DatabaseError, InterfaceError):
        status = SESSION_ENDED
    except BaseException:  # whatever it is, it ends this fork and not its parent
        traceback.print_exc()
    os._exit(status)


def go_on(pid: int) -> None:
    """Let the one that stands still go on to its end."""
    os.kill(pid, signal.SIGCONT)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in {0, SESSION_ENDED}


def strikes(statements: int) -> list[dict[str, Any]]:
    """Where, whether after it, and by what."""
    kills = [(at, after, signal.SIGKILL) for at in range(statements) for after in ((False, True) if ALL else (True,))]
    stops = [(at, after, signal.SIGSTOP) for at in range(0, statements, 1 if ALL else 6) for after in (False, True)]
    return [{"at": at, "after": after, "sig": sig} for at, after, sig in kills + stops]


def flush_to_the_end(shard: int) -> None:
    """A slow machine takes longer than one flush may."""
    while flush(shard).more:
        pass


def test_a_flush_struck_at_any_statement(workspace: Workspace, configure: Configure) -> None:
    """The table is exact after another took over, and still after the first has gone on."""
    act = partial(flush_to_the_end, workspace.shard)
    flushes = []
    for _ in range(2):
        workspace.settle()
        workspace.change()
        flushes.append(statements_of(act))
    statements = min(flushes, key=len)
    assert any("locked AS MATERIALIZED" in text for text in statements), "nothing is recomputed"
    assert any("INSERT INTO" in text for text in statements), "nothing is advanced"
    for each in strikes(len(statements)):
        workspace.settle()
        workspace.change()
        configure(FLUSH_TIME_LIMIT_S=TIME_LIMIT_S[each["sig"]])
        stopped = strike(act, **each)
        # Another worker flushes: at once if nobody holds the shard, else when the server has ended his session.
        until(lambda: not flush(workspace.shard).is_busy, within_s=20)
        assert not backlog.status()[workspace.shard].pending
        assert_exact(workspace.host)
        if stopped is not None:
            workspace.older.delete()  # which the one that stands still does not know
            go_on(stopped)
            flush(workspace.shard)
            assert_exact(workspace.host)


def test_a_fill_struck_at_any_statement(workspace: Workspace) -> None:
    """A run goes while the fill stands still, or after it was killed; another worker fills the chunk again."""
    workspace.empty()
    statements = statements_of(workspace.fill)
    assert len(statements) >= 4
    for each in strikes(len(statements)):
        workspace.empty()
        stopped = strike(workspace.fill, **each)
        workspace.latest.delete()  # which the fill may just have written
        workspace.fill()
        flush(workspace.shard)
        assert_exact(workspace.host)
        if stopped is not None:
            go_on(stopped)
            flush(workspace.shard)
            assert_exact(workspace.host)
