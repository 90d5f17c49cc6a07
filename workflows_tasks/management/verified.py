"""What ``verify`` saw: counts of everything, the first differences of each kind, and how to tell them."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from django.db import DatabaseError

from workflows_tasks.comparison.compare import AGREES, DRIFT, REFUSED, WAITING, Difference
from workflows_tasks.comparison.verify import Part
from workflows_tasks.monitoring.status import age, counted
from workflows_tasks.projection import changes

STATES: Final = (DRIFT, REFUSED, WAITING, AGREES)
"""The worst first."""

WRONG, EXCEPT_WAITING = 1, 2
"""Exit status: drift, or a part that could not be compared; agree, except what waits or is refused."""


class Verified:
    """Parts of a comparison, added one after the other. Differences are kept as far as they are shown."""

    def __init__(self, most: int | None, *, repaired: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._kinds: Counter[str] = Counter()
        self._compared = 0
        self._most = sys.maxsize if most is None else most
        self._kept: dict[str, list[Difference]] = defaultdict(list)
        self._repaired = repaired

    def add(self, part: Part) -> None:
        self.failures += [part.error] if part.error else []
        self._compared += not part.error
        for each in part.differences:
            self.counts[each.state] += 1
            self._kinds[each.kind] += each.state == DRIFT
            if len(self._kept[each.state]) < self._most:
                self._kept[each.state].append(each)

    @property
    def first(self) -> list[Difference]:
        return [each for state in STATES for each in self._kept[state]][: self._most]

    @property
    def exit_status(self) -> int:
        if self.counts[DRIFT] or self.failures:
            return WRONG
        return EXCEPT_WAITING if self.counts[WAITING] or self.counts[REFUSED] else 0

    def as_json(self) -> dict[str, Any]:
        pending, oldest_s = _waiting()
        return {
            "agrees": self.exit_status == 0, **{state: self.counts[state] for state in (DRIFT, REFUSED, WAITING)},
            "changes_waiting": pending, "oldest_change_s": oldest_s, "repaired": self._repaired,
            "not_compared": self.failures, "differences": [each.as_json() for each in self.first],
        }  # fmt: skip

    def sentences(self) -> Iterator[str]:
        """The result in words, the worst first."""
        if self.counts[DRIFT]:
            ending = "repaired" if self._repaired else "run again with --repair to put them right"
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in self._kinds.most_common() if count)
            yield f"{counted(self.counts[DRIFT], 'difference')} that no change explains ({kinds}); {ending}"
        if self._compared:
            otherwise = "otherwise " if self.counts[DRIFT] else ""
            partly = " where they were compared" if self.failures else ""
            yield f"{otherwise}table and runs agree{''.join(self._exceptions())}{partly}"

    def _exceptions(self) -> Iterator[str]:
        if self.counts[WAITING]:
            pending, oldest_s = _waiting()
            waits = f"{counted(pending, 'change')} that wait, the oldest {age(oldest_s)}"
            meanwhile = "what was flushed meanwhile, or a backfill has yet to fill"
            yield f", except {waits if pending else meanwhile} ({counted(self.counts[WAITING], 'row')})"
        if self.counts[REFUSED]:
            yield f", except {counted(self.counts[REFUSED], 'row')} whose changes are in quarantine (see status)"


def _waiting() -> tuple[int, float]:
    """Changes that wait, and the age of the oldest; nothing where the log cannot be read."""
    with suppress(DatabaseError):
        shards = changes.status()
        return sum(each.pending for each in shards), max((each.oldest_s or 0.0 for each in shards), default=0.0)
    return 0, 0.0
