"""Whatever is done, in whatever order, lost or interrupted wherever: the table ends equal to the oracle.

Hypothesis makes up histories and shrinks one that ends wrong to the few steps that matter. ``ENDURANCE_EXAMPLES`` and
``ENDURANCE_STEPS`` make it look longer than it does by default.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import redis
from celery import Celery
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import Configure
from tests.endurance.aside import aside
from tests.endurance.machine import AnySequence
from tests.endurance.post import Post
from tests.endurance.world import SHARDS
from tests.hosts.adapter import Host
from workflows_tasks import projection

EXAMPLES = {"platform": 60, "library": 20, "deep": 20}
STEPS = 40

SMALL = {
    "SHARDS": SHARDS,
    # Batches, pages and chunks of a few, so that their seams are met.
    "FLUSH_BATCH": 3,
    "SWEEP_PAGE": 5,
    "AUDIT_CHUNK": 3,
    # The sweep leaves alone what was used within two windows; here nothing is that recent.
    "FLUSH_WINDOW_S": 1e-6,
    # No message is late while a history is played: a shard that waits without one would wait for ever.
    "MARKER_S": 3_600.0,
}


@pytest.fixture
def errors() -> Iterator[list[logging.LogRecord]]:
    """What the package logged as an error: its receivers report what they must not raise."""
    found: list[logging.LogRecord] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    collecting = Collecting(logging.ERROR)
    logging.getLogger("workflows_tasks").addHandler(collecting)
    yield found
    logging.getLogger("workflows_tasks").removeHandler(collecting)


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        yield client


@pytest.mark.timeout(3_600)
def test_any_sequence_ends_exact(
    live: Host,
    configure: Configure,
    errors: list[logging.LogRecord],
    client: redis.Redis,
    celery_app_in_process: Celery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(**SMALL)
    monkeypatch.setattr(projection, "PAGES", (1, 3))
    with aside() as beside:
        run_state_machine_as_test(
            lambda: (  # type: ignore[arg-type]  # it calls it, and a class would need its arguments as globals
                AnySequence(live, Post(client, celery_app_in_process), beside, errors)
            ),
            settings=settings(
                max_examples=int(os.environ.get("ENDURANCE_EXAMPLES", EXAMPLES[live.name])),
                stateful_step_count=int(os.environ.get("ENDURANCE_STEPS", STEPS)),
                deadline=None,
                print_blob=True,
                phases=[Phase.reuse, Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
