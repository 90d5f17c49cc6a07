"""A short soak; ``make soak`` is the long one."""

from __future__ import annotations

import pytest

from tests.commands import python


@pytest.mark.host_independent
@pytest.mark.timeout(240)
def test_the_table_is_exact_after_writers_and_disasters() -> None:
    sizes = {"--operations": 1500, "--writers": 2, "--workers": 2, "--disaster-every": 1}
    arguments = [str(part) for size in sizes.items() for part in size]
    code, output = python("-m", "tests.chaos.soak", *arguments, within_s=220)
    print(output)  # noqa: T201  # the summary, with its seed
    assert code == 0, output
    assert "1,500 operations in" in output
    assert "exact" in output.splitlines()
