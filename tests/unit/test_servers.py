"""The servers that tests and demo start: nothing else can be taken for them."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import pytest

from demo import servers
from demo.servers import PORTS, Process, free_port
from tests.waiting import until

pytestmark = pytest.mark.host_independent

OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_no_outgoing_connection_can_have_a_servers_port() -> None:
    """Else it takes the port before the server does, or a probe finds itself there: TCP connects to itself."""
    first_outgoing = int(OUTGOING.read_text().split()[0]) if OUTGOING.exists() else 32_768
    assert max(PORTS) < first_outgoing
    assert free_port() in PORTS


def test_no_two_servers_get_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first does not listen yet when the second's is chosen."""
    first, second = free_port(), free_port()
    drawn = iter([first, second, first, third := free_port()])
    monkeypatch.setattr(servers, "_given", servers._given - {third})
    monkeypatch.setattr(secrets, "choice", lambda _: next(drawn))
    assert free_port() == third


def test_a_server_that_has_ended_is_not_ready_whoever_answers_for_it(tmp_path: Path) -> None:
    process = Process([sys.executable, "-c", "print('no port left')"], tmp_path / "log")
    process.launch()
    until(lambda: not process.running)
    with pytest.raises(RuntimeError, match="no port left"):
        process.wait_until(lambda: True)
