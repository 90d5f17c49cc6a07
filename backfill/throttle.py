"""Why a backfill should wait now: because live changes wait, replicas are behind, or the host says so.

Reasons are sentences, for people to read. A signal that cannot be asked is a reason too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.utils.module_loading import import_string

from workflows_tasks import conf, history

REPLICA_LAG_S: Final = 10.0
"""Seconds that a replica may be behind."""

_REPLICA: Final = """
    SELECT application_name, extract(epoch FROM replay_lag)::float8 AS lag_s
    FROM pg_stat_replication WHERE replay_lag IS NOT NULL ORDER BY lag_s DESC LIMIT 1
"""


def reasons_to_wait() -> list[str]:
    """Ask every signal; empty if no transaction needs to wait."""
    signals = {"the change log": _change_log, "replicas": _replicas, "BACKFILL_THROTTLE": _host}
    return [reason for name, signal in signals.items() if (reason := _ask(name, signal))]


def _ask(name: str, signal: Callable[[], str | None]) -> str | None:
    try:
        return signal()
    except Exception as error:  # whatever a host's own code raises
        return f"{name} cannot be asked ({history.brief(error)})"


def _change_log() -> str | None:
    age_s, limit_s = history.oldest_change_s(), conf.settings().backfill_stop_s
    return f"live changes wait for {age_s:.1f} s (limit {limit_s:g} s)" if age_s > limit_s else None


def _replicas() -> str | None:
    for name, lag_s in history.rows(history.Sql(_REPLICA)):
        if lag_s > REPLICA_LAG_S:
            return f"replica {name} is {lag_s:.1f} s behind (limit {REPLICA_LAG_S:g} s)"
    return None


def _host() -> str | None:
    path = conf.settings().backfill_throttle
    reason = import_string(path)() if path else None
    return str(reason) if reason else None
