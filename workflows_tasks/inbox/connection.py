"""The connection: one client for each patience, scripts, and what their answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

import redis
from django.core.signals import setting_changed
from django.utils.module_loading import import_string
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from workflows_tasks import conf
from workflows_tasks.errors import InboxUnavailable
from workflows_tasks.inbox import keys

WORKER_TIMEOUT_S: Final = 5.0
"""Workers and commands wait this long for Redis: they move whole claims, and nobody's request waits on them."""


@cache
def client(timeout_s: float = WORKER_TIMEOUT_S) -> Any:
    """A client that gives up after ``timeout_s`` to connect and as long again for each answer. Safe across forks."""
    url = conf.settings().redis_url
    if "://" not in url:
        return import_string(url)(timeout_s=timeout_s)
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=timeout_s,
        socket_timeout=timeout_s,
        # One attempt: the caller decides what a failure costs. redis-py's default would retry with backoff.
        retry=Retry(NoBackoff(), 0),
    )


@contextmanager
def errors() -> Iterator[None]:
    """What the client raises, as ``InboxUnavailable``."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise unavailable(error) from error


def unavailable(error: Exception) -> InboxUnavailable:
    return InboxUnavailable(
        f"Redis did not take or give what was asked ({type(error).__name__}: {error}). "
        f"Check {conf.NAME}['REDIS_URL'] and the server."
    )


def answers(server: Any, commands: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """What a server says to commands, in one round trip.

    A save is nearly always of one shard, and a pipeline of one costs the client more.
    """
    if len(commands) == 1:
        return [server.execute_command(*commands[0])]
    pipeline = server.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return cast("list[Any]", pipeline.execute())


@cache
def script(name: str) -> str:
    return (files("workflows_tasks.inbox") / "scripts" / f"{name}.lua").read_text()


def run_script(name: str, names: list[str], *args: object) -> Any:
    """Run a script of ``scripts/`` on these keys.

    Raises:
        InboxUnavailable: Redis refused or did not answer in time.
    """
    with errors():
        sent = map(as_bytes, (*names, *args))
        return client().execute_command("EVAL", script(name), len(names), *sent)


def time_of(shard: int) -> tuple[Any, ...]:
    """The command that asks for the time where a shard's keys are: TIME itself would be answered by any node."""
    return "EVAL", "return redis.call('TIME')", 1, *keys.of_shard(shard, "pending")


def now_ms(answer: Any) -> float:
    seconds, microseconds = answer
    return float(seconds) * 1000 + float(microseconds) / 1000


def text(value: str | bytes) -> str:
    """Bytes that are no UTF-8 survive as surrogates: somebody put them there, and they must be acknowledged by name."""
    return value if isinstance(value, str) else value.decode(errors="surrogateescape")


def as_bytes(value: Any) -> Any:
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value


def _forget(*, setting: str, **_: object) -> None:
    if setting == conf.NAME:
        client.cache_clear()


setting_changed.connect(_forget, dispatch_uid="workflows_tasks.inbox")
