"""One writer of a soak: it does what hosts do to their runs, as fast as it can.

What a host would handle it handles: the database is away for a while, or an object is gone that another writer has
deleted. Anything else is an unhandled error, and there must be none.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Final

from django.core.exceptions import ObjectDoesNotExist
from django.db import InterfaceError, OperationalError, connection

from tests.endurance.hosting import Hosting
from workflows_tasks.transactions import sqlstate

REPORT_EVERY_S: Final = 0.25
AWAY: Final = ("08", "57P")
"""Classes of SQLSTATE of a server that is not there, goes, or comes; a connection that breaks off has none."""

DEADLOCK: Final = "40P01"
FOREIGN_KEY: Final = "23503"
NO_ROW: Final = "did not affect any rows"
OUR_TABLES: Final = "workflows_tasks_"


class Writer:
    """Counts what it did; ``report`` is a file that says how far it is."""

    def __init__(self, hosting: Hosting, *, operations: int, rate: float, report: Path) -> None:
        self._hosting, self._operations, self._rate, self._report = hosting, operations, rate, report
        self._counts: Counter[str] = Counter()
        self._handled: Counter[str] = Counter()
        self._unhandled: list[str] = []
        self._save_s: list[float] = []
        self._reported_s = 0.0
        self._outdated = False

    def run(self) -> None:
        """Write, at a rate of so many a second or as fast as it goes."""
        started_s = time.monotonic()
        while (done := self._counts.total()) < self._operations:
            if self._rate:
                time.sleep(max(started_s + done / self._rate - time.monotonic(), 0))
            self._one()
            if time.monotonic() - self._reported_s > REPORT_EVERY_S:
                self._tell()
        self._tell(final=True)

    def unhandled(self, what: str) -> None:
        self._unhandled.append(what)

    def _one(self) -> None:
        started = time.perf_counter()
        try:
            if self._outdated:
                self._hosting.refresh()
                self._outdated = False
            kind, do = self._hosting.choose()
            do()
        except Exception as error:
            self._failed(error)
        else:
            self._counts[kind] += 1
            if kind == "save":
                self._save_s.append(time.perf_counter() - started)

    def _failed(self, error: Exception) -> None:
        state = sqlstate(error) or ""
        if isinstance(error, (OperationalError, InterfaceError)) and (not state or state.startswith(AWAY)):
            self._handled["database away"] += 1
            self._reconnect()
        elif state == FOREIGN_KEY or isinstance(error, ObjectDoesNotExist) or NO_ROW in str(error):
            self._handled["gone, another writer deleted it"] += 1
            self._outdated = True
        elif state == DEADLOCK and OUR_TABLES not in str(error):
            self._handled["deadlock with another writer"] += 1
        else:
            self.unhandled("".join(traceback.format_exception(error)))

    def _reconnect(self) -> None:
        while True:
            connection.close()
            try:
                connection.ensure_connection()
            except OperationalError:
                time.sleep(0.05)
            else:
                return

    def _tell(self, *, final: bool = False) -> None:
        self._reported_s = time.monotonic()
        told: dict[str, Any] = {"operations": self._counts.total()}
        if final:
            told |= {"counts": self._counts, "handled": self._handled, "save_s": self._save_s}
        told["unhandled"] = self._unhandled
        partial = self._report.with_suffix(".new")
        partial.write_text(json.dumps(told))
        partial.rename(self._report)


class SwallowedErrors(logging.Handler):
    """What the package reports instead of raising it, outages apart."""

    def __init__(self, writer: Writer) -> None:
        super().__init__(logging.ERROR)
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not isinstance(record.exc_info[1], (OperationalError, InterfaceError)):
            self._writer.unhandled(record.getMessage())
