"""What a comparison found, as command and admin tell it: counts of everything, and the first differences."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from django.db import DatabaseError

from workflows_tasks.comparison.compare import AGREES, DRIFT, REFUSED, UNFILLED, WAITING, Difference, advice_to_fill
from workflows_tasks.comparison.verify import Part
from workflows_tasks.monitoring.status import age, counted
from workflows_tasks.projection import backlog

STATES: Final = (DRIFT, REFUSED, UNFILLED, WAITING, AGREES)
"""The worst first."""

WRONG, EXCEPT_WAITING = 1, 2
"""Exit status. ``WRONG``: there is drift, or a part could not be compared. ``EXCEPT_WAITING``: table and runs agree,
except where changes wait or are in quarantine, or history is not filled."""


class Verified:
    """Parts of a comparison, added up. Only the first differences of each state are kept: there may be millions."""

    def __init__(self, most: int | None, *, repaired: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._kinds: Counter[str] = Counter()
        self._has_compared = False
        self._most = sys.maxsize if most is None else most
        self._kept: dict[str, list[Difference]] = defaultdict(list)
        self._repaired = repaired

    def add(self, part: Part) -> None:
        if part.error:
            self.failures.append(part.error)
            return
        self._has_compared = True
        self.counts.update(each.state for each in part.differences)
        self._kinds.update(each.kind for each in part.differences if each.state == DRIFT)
        for each in part.differences:
            if len(self._kept[each.state]) < self._most:
                self._kept[each.state].append(each)

    @property
    def first(self) -> list[Difference]:
        """The first differences, the worst state first."""
        return [each for state in STATES for each in self._kept[state]][: self._most]

    @property
    def exit_status(self) -> int:
        if self.counts[DRIFT] or self.failures:
            return WRONG
        return EXCEPT_WAITING if any(self.counts[state] for state in (REFUSED, UNFILLED, WAITING)) else 0

    def as_json(self) -> dict[str, Any]:
        pending, oldest_s = _waiting()
        return {
            "agrees": self.exit_status == 0, **{state: self.counts[state] for state in STATES[:-1]},
            "changes_waiting": pending, "oldest_change_s": oldest_s, "repaired": self._repaired,
            "not_compared": self.failures, "differences": [each.as_json() for each in self.first],
        }  # fmt: skip

    def sentences(self) -> Iterator[str]:
        """The result in words, the worst first."""
        drift, refused, unfilled, waiting = (self.counts[state] for state in STATES[:-1])
        if drift:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in self._kinds.most_common())
            ending = "repaired" if self._repaired else "verify --repair puts them right"
            yield f"{counted(drift, 'difference')} that no change explains ({kinds}); {ending}"
        if self._has_compared:
            agree = f"{'otherwise ' if drift else ''}table and runs agree"
            if waiting:
                agree += f", except {_what_waits()} ({counted(waiting, 'row')})"
            if unfilled:
                agree += f", except {counted(unfilled, 'row')} of history that is not filled yet ({advice_to_fill()})"
            if refused:
                agree += f", except {counted(refused, 'row')} whose changes are in quarantine (see status)"
            yield agree + (" where they were compared" if self.failures else "")


def _what_waits() -> str:
    pending, oldest_s = _waiting()
    if pending:
        return f"{counted(pending, 'waiting change')}, the oldest {age(oldest_s)}"
    return "what was flushed meanwhile"


def _waiting() -> tuple[int, float]:
    """Changes that wait, and the age of the oldest; nothing where the log cannot be read."""
    with suppress(DatabaseError):
        return sum(shard.pending for shard in backlog.status()), backlog.oldest_change_s()
    return 0, 0.0
