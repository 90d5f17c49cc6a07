"""The circuit breaker."""

from __future__ import annotations

from tests.waiting import until
from workflows_tasks.breaker import Breaker


def is_open(breaker: Breaker) -> bool:
    return breaker.is_open


def test_it_opens_with_the_first_failure_and_closes_with_a_success() -> None:
    breaker = Breaker("a service")
    assert not is_open(breaker)
    assert breaker.fail(30.0), "the outage's first failure"
    assert is_open(breaker)
    assert not breaker.fail(30.0), "the same outage"
    assert breaker.succeed(), "which ends here"
    assert not is_open(breaker)
    assert not breaker.succeed(), "there was none"
    assert breaker.fail(30.0), "another outage"


def test_it_lets_one_try_through_after_a_pause() -> None:
    breaker = Breaker("a service")
    breaker.fail(0.02)
    assert is_open(breaker)
    until(lambda: not is_open(breaker))
    assert not breaker.fail(0.02), "still the same outage"
    assert is_open(breaker)
