"""The health command of a worker's container asks that worker, not whether somebody works."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from pytest_celery import CeleryTestBroker, CeleryTestSetup

from tests.commands import ROOT
from tests.hosts.adapter import Host


@pytest.fixture
def celery_broker(own_broker: CeleryTestBroker) -> CeleryTestBroker:
    """One without other tests' workers, which all hear a ping, and those that take only pickle complain."""
    return own_broker


def status_of(node: str) -> int:
    """Exit status of what ``compose.yaml`` runs, for a worker of this name."""
    (command,) = re.findall(r'CMD-SHELL, "celery (.+ping.+)"', (ROOT / "compose.yaml").read_text())
    asked = f"{sys.executable} -m celery {command}".replace("celery@$$HOSTNAME", node)
    assert node in asked
    return subprocess.run(asked, shell=True, cwd=ROOT, capture_output=True, check=False, timeout=30).returncode


def test_a_worker_answers_for_itself(celery_setup: CeleryTestSetup, live: Host) -> None:
    worker = celery_setup.worker
    assert status_of(worker.hostname()) == 0
    worker.kill()
    assert status_of(worker.hostname()) == 69, "nobody answered"
