"""The host's first hour: the page is followed word by word, on a project that is made for it."""

from __future__ import annotations

import pytest

from tests.docs.reader import Reader


@pytest.mark.timeout(120)
def test_the_host_s_first_hour(installed: Reader) -> None:
    """What the page shows is what it printed: the fixture follows it."""
    assert (installed.directory / "proj" / "celery.py").exists()
