"""The reader notices what it is there to notice: a page that is wrong fails its test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Command, Console, File, steps
from tests.docs.reader import Reader

pytestmark = pytest.mark.host_independent

PAGE = """
Some text.

```python
# proj/names.py
NAME = "Anna"
```

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


def test_the_steps_of_a_page() -> None:
    assert list(steps(PAGE)) == [
        File("proj/names.py", 'NAME = "Anna"\n'),
        File("proj/names.py", "\nAGE = 7\n", append=True),
        Console(
            [
                Command('python -c "import proj.names"'),
                Command("false", "", "1"),
                Command("echo one two three", "one ... three"),
            ],
            is_patient=True,
        ),
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("a b", "a   b\n", True),
        ("a b", "a c", False),
        ("a ...", "a b c", True),
        ("a ...", "b a", False),
        ("... c", "a b\nc", True),
        ("a.c", "abc", False),
        ("", "whatever", True),
    ],
)
def test_what_counts_as_shown(*, shown: str, printed: str, expected: bool) -> None:
    assert Command("", shown).prints(printed) == expected


@pytest.mark.parametrize("command", [Command("echo no", "yes"), Command("false"), Command("true", "", "1")])
def test_a_page_that_is_wrong(tmp_path: Path, command: Command) -> None:
    with Reader(tmp_path / "host") as reader, pytest.raises(AssertionError, match=command.typed):
        reader.follow([Console([command])])


def test_an_addition_to_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"no proj/names\.py to append to"):
        File("proj/names.py", "", append=True).write(tmp_path)
