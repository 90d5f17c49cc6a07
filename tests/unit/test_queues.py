"""``configure(app)`` adds to a host's Celery app, and takes nothing away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from django.conf import settings
from kombu import Exchange, Queue

from tests.conftest import Configure
from workflows_tasks import queues
from workflows_tasks.queues import beat_schedule, routes

pytestmark = pytest.mark.host_independent

LIVE, BACKFILL = "recent-workflows", "recent-workflows-backfill"


@pytest.fixture
def app(configure: Configure) -> Iterator[Celery]:
    """A host's app, as yet without anything of ours."""
    configure(QUEUE=LIVE)
    with Celery("host", set_as_current=False, broker="memory://") as app:
        yield app


def names(app: Celery) -> list[str]:
    return [queue.name for queue in app.conf.task_queues]


def queue_of(app: Celery, task: str) -> str:
    return str(app.amqp.router.route({}, task)["queue"].name)


def test_a_host_that_configures_nothing_keeps_its_default_queue(app: Celery) -> None:
    queues.configure(app)
    assert names(app) == ["celery", LIVE, BACKFILL]
    assert set(app.amqp.queues.consume_from) == {"celery", LIVE, BACKFILL}
    assert queue_of(app, "host.tasks.anything") == "celery"
    assert queue_of(app, "workflows_tasks.tasks.flush") == LIVE
    assert queue_of(app, "backfill.tasks.work") == BACKFILL
    assert not queues.delays_in_whole_seconds(app)


def test_a_default_queue_of_another_name_is_kept(app: Celery) -> None:
    app.conf.task_default_queue = "default"
    queues.configure(app)
    assert names(app) == ["default", LIVE, BACKFILL]
    assert queue_of(app, "host.tasks.anything") == "default"


def test_existing_queues_are_kept_as_they_are(app: Celery) -> None:
    own = Queue("own", Exchange("own", type="topic"), routing_key="own.#", queue_arguments={"x-max-priority": 9})
    app.conf.task_queues = (own, Queue(LIVE, routing_key="chosen by the host"))
    queues.configure(app)
    assert names(app) == ["own", LIVE, BACKFILL]
    assert app.conf.task_queues[0] is own
    assert app.conf.task_queues[1].routing_key == "chosen by the host"


def test_a_default_queue_is_declared_as_celery_declares_it(app: Celery) -> None:
    """A broker refuses to declare a queue that it has with other arguments."""
    app.conf.task_default_queue_type = "quorum"
    app.conf.task_queue_max_priority = 7
    (as_ever,) = app.amqp.Queues([]).values()
    queues.configure(app)
    kept = app.amqp.queues["celery"]
    assert (kept.queue_arguments, kept.exchange, kept.routing_key) == (
        as_ever.queue_arguments, as_ever.exchange, as_ever.routing_key,
    )  # fmt: skip
    assert kept.queue_arguments


def test_queues_in_a_dict_are_kept_as_they_are(app: Celery) -> None:
    app.conf.task_queues = {"mail": {"exchange": "mailx", "exchange_type": "topic", "binding_key": "mail.#"}}
    queues.configure(app)
    assert names(app) == ["mail", LIVE, BACKFILL]
    kept = app.amqp.queues["mail"]
    assert (kept.exchange.name, kept.exchange.type, kept.routing_key) == ("mailx", "topic", "mail.#")


@pytest.mark.parametrize(
    "own",
    [
        {"host.*": {"queue": "own"}},
        [{"host.*": {"queue": "own"}}],
        ({"host.*": {"queue": "own"}},),
        lambda name, *_, **__: {"queue": "own"} if name.startswith("host.") else None,
    ],
    ids=["dict", "list", "tuple", "function"],
)
def test_existing_routes_are_kept(app: Celery, own: Any) -> None:
    app.conf.task_routes = own
    queues.configure(app)
    assert queue_of(app, "host.tasks.anything") == "own"
    assert queue_of(app, "workflows_tasks.tasks.tick") == LIVE
    assert queue_of(app, "another.task") == "celery"


def test_a_host_may_route_our_tasks_itself(app: Celery) -> None:
    app.conf.task_routes = {"workflows_tasks.*": {"queue": "own"}}
    queues.configure(app)
    assert queue_of(app, "workflows_tasks.tasks.flush") == "own"


def test_existing_beat_entries_are_kept(app: Celery) -> None:
    own = {"task": "host.tasks.nightly", "schedule": 86_400}
    slower = {"task": "workflows_tasks.tasks.tick", "schedule": 60.0}
    app.conf.beat_schedule = {"nightly": own, "recent-workflows-tick": slower}
    queues.configure(app)
    assert app.conf.beat_schedule["nightly"] == own
    assert app.conf.beat_schedule["recent-workflows-tick"] == slower
    assert set(app.conf.beat_schedule) == {"nightly", *beat_schedule()}


def test_the_settings_name_the_queues_and_the_periods(app: Celery, configure: Configure) -> None:

    configure(QUEUE="q", BACKFILL_QUEUE="b", TICK_PERIOD_S=7.0)
    queues.configure(app)
    assert names(app) == ["celery", "q", "b"]
    entry = app.conf.beat_schedule["recent-workflows-tick"]
    assert (entry["schedule"], entry["options"]) == (7.0, {"queue": "q", "expires": 35.0})


def test_where_the_default_queue_is_of_quorum_type_ours_are_too(app: Celery) -> None:
    """RabbitMQ delays messages on their way to such a queue through a topic exchange only, and by whole seconds."""
    app.conf.task_default_queue_type = "quorum"
    queues.configure(app)
    live = app.amqp.queues[LIVE]
    assert (live.exchange.name, live.exchange.type) == (LIVE, "topic")
    assert (live.queue_arguments or {})["x-queue-type"] == "quorum"
    assert queues.delays_in_whole_seconds(app)


def test_with_settings_that_cannot_be_used_nothing_is_added(app: Celery, configure: Configure) -> None:
    """A project imports its app when it starts, and must come as far as the check that says what is wrong."""
    configure(SHARDS=0)
    before = app.conf.task_queues, app.conf.task_routes, dict(app.conf.beat_schedule)
    queues.configure(app)
    assert (app.conf.task_queues, app.conf.task_routes, dict(app.conf.beat_schedule)) == before


def test_configuring_twice_adds_nothing(app: Celery) -> None:
    queues.configure(app)
    before = names(app), set(app.conf.beat_schedule)
    queues.configure(app)
    assert (names(app), set(app.conf.beat_schedule)) == before


def test_every_beat_entry_names_a_task_that_there_is(celery_app_in_process: Celery) -> None:
    celery_app_in_process.loader.import_default_modules()
    assert {entry["task"] for entry in beat_schedule().values()} <= set(celery_app_in_process.tasks)


def test_the_backfills_tick_is_sent_where_it_is_installed_and_on_the_live_queue(
    monkeypatch: pytest.MonkeyPatch, configure: Configure
) -> None:
    configure(QUEUE=LIVE, TICK_PERIOD_S=3.0)
    entry = beat_schedule()["recent-workflows-backfill"]
    assert (entry["task"], entry["schedule"], entry["options"]["queue"]) == ("backfill.tasks.tick", 3.0, LIVE)
    monkeypatch.setattr(settings, "INSTALLED_APPS", ["workflows_tasks", "backfill.apps.BackfillConfig"])
    assert "recent-workflows-backfill" in beat_schedule()
    monkeypatch.setattr(settings, "INSTALLED_APPS", ["workflows_tasks"])
    assert "recent-workflows-backfill" not in beat_schedule()


def test_every_task_of_ours_is_routed() -> None:
    assert set(routes()) == {"workflows_tasks.tasks.*", "backfill.tasks.*"}
