"""The histories that hypothesis makes up: what a host does, what happens to its announcements, who flushes them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.endurance.aside import Aside
from tests.endurance.changes import Use
from tests.endurance.doings import Doings, HowTo, aiding, announced_changes, losing, runs, workspaces
from tests.endurance.post import Post
from tests.endurance.steps import FILL, FLUSH, Interrupted, Statement, Step, at, interrupt
from tests.endurance.world import SHARDS, World
from tests.hosts.adapter import Host
from tests.oracle import assert_exact, flush_all, stored
from workflows_tasks import announce, conf, inbox, operations, projection, repair
from workflows_tasks.flush import flush
from workflows_tasks.sql.fragments import EVERYWHERE, Workspaces

shards = st.integers(0, SHARDS - 1)
some = st.integers(0, 9)
then = st.sampled_from(("nothing", "flush", "fill"))


class AnySequence(Doings):
    """Any history of one host and one inbox."""

    def __init__(self, host: Host, post: Post, aside: Aside, errors: list[logging.LogRecord]) -> None:
        super().__init__(World(host))
        self.post = post
        self.aside, self.errors = aside, errors
        self.errors.clear()
        self.unfilled: list[str | None] = []
        self._raised_before = sys.exc_info()[1]

    # On the way

    @losing
    @rule(number=st.none() | some)
    def an_announcement_is_lost(self, number: int | None) -> None:
        """One, or with all of Redis every one."""
        self.lost |= self.post.lose_all() if number is None else self.post.lose(number)

    @rule(number=some)
    def an_announcement_is_held_back(self, number: int) -> None:
        self.post.hold_back(number)

    @rule()
    def what_was_held_back_arrives(self) -> None:
        self.post.bring()

    @aiding
    @rule()
    def every_announcement_comes_again(self) -> None:
        self.post.repeat()

    @aiding
    @rule(runs=runs)
    def announced_for_nothing(self, runs: Sequence[int]) -> None:
        announce(self.world.keys(runs))

    # Workers

    @rule(shard=shards)
    def flush(self, shard: int) -> None:
        self._flush(shard)

    @rule(shard=shards, where=st.sampled_from(tuple(FLUSH)))
    def flush_interrupted(self, shard: int, where: str) -> None:
        with suppress(Interrupted), at(FLUSH[where], interrupt):
            self._flush(shard)

    @rule(
        first=runs,
        how=announced_changes,
        where=st.sampled_from(tuple(FLUSH)),
        others=st.none() | runs,
        meanwhile=announced_changes,
        then=then,
    )
    def flush_while(
        self, first: Sequence[int], how: HowTo, where: str, others: Sequence[int] | None, meanwhile: HowTo, then: str
    ) -> None:
        """It stands still until its lease ends, while the same runs or others change and somebody else goes on."""
        self._change(first, how)
        with self._meanwhile(FLUSH[where], others or first, meanwhile, then):
            self._flush(self.post.fullest())

    @aiding
    @rule(of=st.none() | workspaces)
    def fill(self, of: str | None) -> None:
        self._fill(of)

    @aiding
    @rule(of=st.none() | workspaces, where=st.sampled_from(tuple(FILL)))
    def fill_interrupted(self, of: str | None, where: str) -> None:
        with suppress(Interrupted), at(FILL[where], interrupt):
            self._fill(of)
        self.unfilled.append(of)

    @rule(
        used=runs,
        of=st.none() | workspaces,
        where=st.sampled_from(tuple(FILL)),
        others=st.none() | runs,
        meanwhile=announced_changes,
        then=then,
    )
    def fill_while(
        self, used: Sequence[int], of: str | None, where: str, others: Sequence[int] | None, meanwhile: HowTo, then: str
    ) -> None:
        self._change(used, (Use(), "save"))
        with self._meanwhile(FILL[where], others or used, meanwhile, then):
            self._fill(of)

    @rule()
    def rescue(self) -> None:
        self.post.rescue()

    @aiding
    @rule(by=st.sampled_from((repair.sweep, repair.audit)))
    def beat(self, by: Callable[[], int]) -> None:
        by()

    # What must hold

    @rule()
    def everything_is_settled(self) -> None:
        """Once nothing is on its way the table is exact; after a loss, once it was swept or, where need be, audited."""
        self._flush(0)
        self.post.bring()
        while self.unfilled:
            self._fill(self.unfilled.pop())
        self._rescue_and_flush()
        if self.lost:
            self._make_good()
        assert_exact(self.world.host)
        assert [shard.aside + shard.claims for shard in inbox.status()] == [0] * SHARDS
        assert [record.getMessage() for record in self.errors] == []
        self.lost = False

    def teardown(self) -> None:
        if sys.exc_info()[1] is self._raised_before:  # otherwise a step has failed: that is what is to be reported
            self.everything_is_settled()

    def _make_good(self) -> None:
        if self.unswept:
            for checked in repair.check(EVERYWHERE):
                operations.repair_now(checked.drift)
            assert [checked.drift for checked in repair.check(EVERYWHERE) if checked.drift] == []
            return
        for _ in range(len(stored()) // conf.settings().sweep_page + 2):  # a sweep looks at one page of rows
            repair.sweep()
            flush_all()

    def _flush(self, shard: int) -> None:
        """A worker gets a flush message, of this shard or, if that has none, of the other."""
        flush(self.post.deliver(shard))

    @contextmanager
    def _meanwhile(self, moment: Step | Statement, runs: Sequence[int], how: HowTo, then: str) -> Iterator[None]:
        def do() -> None:
            self._change(runs, how)
            if then == "flush":
                self._rescue_and_flush()
            elif then == "fill":
                self._fill(None)

        try:
            with at(moment, lambda: self.aside.begin(do)):
                yield
        finally:
            self.aside.end()

    def _fill(self, of: str | None) -> None:
        _, stale = projection.fill(self._range(of))
        announce([row.run for row in stale])

    def _rescue_and_flush(self) -> None:
        self.post.rescue()
        flush_all()

    def _range(self, of: str | None) -> Workspaces:
        if of is None:
            return EVERYWHERE
        key = self.world.host.workspace_key(self.world.workspace(of))
        return Workspaces(key, key)
