"""What a process has counted while Redis was away is its own."""

from __future__ import annotations

from tests.commands import python

FORKING = """
import os
from workflows_tasks import tally
tally.add("save_failures")
child = os.fork()
if not child:
    os._exit(len(tally.taken()))
assert os.waitpid(child, 0)[1] == 0, "a child would tell what its parent tells, too"
assert tally.taken() == {"save_failures": 1}
assert tally.taken() == {}
"""


def test_a_child_does_not_repeat_its_parents_counts() -> None:
    assert python("-c", FORKING) == (0, "")
