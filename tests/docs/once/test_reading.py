"""The reader notices what it is there to notice: a page that is not true fails its test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Command, Console, File, Page, steps
from tests.docs.reader import Reader

PAGE = """
Some text.

```python
# proj/names.py
NAME = "Anna"
```

And, in the same file:

```python
# proj/names.py, at the end
AGE = 7
```

```python
only.to.be.read()
```

What it prints a second later:

```console
$ python -c "import proj.names"   # which prints nothing
$ false
$ echo $?
1
$ echo one two \\
    three
one ... three
```
"""


def test_what_a_page_asks_for() -> None:
    assert list(steps(PAGE)) == [
        File("proj/names.py", 'NAME = "Anna"\n', at_the_end=False),
        File("proj/names.py", "\nAGE = 7\n", at_the_end=True),
        Console(
            [
                Command('python -c "import proj.names"', ""),
                Command("false", "", "1"),
                Command("echo one two three", "one ... three"),
            ],
            patient=True,
        ),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a b", "a   b\n", True),
        ("a b", "a c", False),
        ("a ...", "a b c", True),
        ("a ...", "b a", False),
        ("... c", "a b\nc", True),
        ("a ... c", "a c", True),
        ("a.c", "abc", False),
        ("", "whatever", True),
    ],
)
def test_what_counts_as_shown(*, shown: str, printed: str, same: bool) -> None:
    assert Command("", shown).is_as_shown(printed) == same


@pytest.mark.parametrize("command", [Command("echo no", "yes"), Command("false", ""), Command("true", "", "1")])
def test_a_page_that_is_not_true(tmp_path: Path, command: Command) -> None:
    with Reader(tmp_path / "host") as reader, pytest.raises(AssertionError, match=command.typed):
        reader.follow(Page("", [Console([command], patient=False)]))


def test_an_addition_to_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"nothing to add to: proj/names\.py"):
        File("proj/names.py", "", at_the_end=True).write(tmp_path)
