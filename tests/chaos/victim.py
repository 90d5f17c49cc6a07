"""A program whose flush or fill is killed or stopped at a statement: ``python -m tests.chaos.victim``.

Orders come as lines of JSON, answers go out as such. Each order is carried out by a fork, so Django is set up once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from demo.servers import die_with_parent
from tests.commands import ROOT

NEVER: Final = -1

LIMITS_S: Final = {"statement_s": 5.0, "lock_s": 2.0, "idle_s": 0.3}
"""Of the fill's transaction. The server ends the session of a process that stands still in it."""


def main() -> None:
    os.chdir(ROOT)
    import django

    django.setup()
    for line in sys.stdin:
        order = json.loads(line)
        if "go_on" in order:
            os.kill(order["go_on"], signal.SIGCONT)
            _answer(_ended(order["go_on"], 0))
            continue
        pid = os.fork()
        if pid == 0:
            _carry_out(order)
        _answer(_ended(pid, os.WUNTRACED))


def _ended(pid: int, options: int) -> dict[str, Any]:
    """How a fork ended, or that it stands still."""
    _, status = os.waitpid(pid, options)
    if os.WIFSTOPPED(status):
        return {"pid": pid, "stopped": True}
    return {"pid": pid, "stopped": False, "status": os.waitstatus_to_exitcode(status)}


def _answer(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _carry_out(order: dict[str, Any]) -> None:
    """Act, and tell the statements that there were."""
    die_with_parent()  # also while it stands still
    from django.db import DatabaseError, InterfaceError, connection

    status = 0
    texts: list[str] = []
    try:
        with connection.execute_wrapper(_at_each_statement(order, texts)):
            ACTS[order["act"]](*order["arguments"])
    except (DatabaseError, InterfaceError):
        status = 3  # its session was ended meanwhile
    except BaseException as error:  # whatever it is, it ends this fork and not its parent
        sys.stderr.write(f"{error!r}\n")
        status = 4
    if order["at"] == NEVER:
        _answer({"statements": texts})
    os._exit(status)


def _at_each_statement(order: dict[str, Any], texts: list[str]) -> Callable[..., Any]:
    def stepped(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
        is_it = len(texts) == order["at"]
        texts.append(" ".join(str(sql).split())[:60])
        if is_it and not order["after"]:
            os.kill(os.getpid(), order["signal"])
        result = execute(sql, *rest)
        if is_it and order["after"]:
            os.kill(os.getpid(), order["signal"])
        return result

    return stepped


def _flush(shard: int) -> None:
    from workflows_tasks.projection.flush import flush

    flush(shard)


def _fill(workspace: str) -> None:
    """What a backfill does with a chunk: fill it, and look over it in a later transaction."""
    from workflows_tasks import history

    among = history.Range(first=workspace, last=workspace)
    history.fill(among, limits=history.limits(**LIMITS_S))
    with history.read_committed(history.limits(**LIMITS_S)):
        history.recheck_filled(among)


ACTS: Final[dict[str, Callable[..., None]]] = {"flush": _flush, "fill": _fill}


if __name__ == "__main__":
    main()
