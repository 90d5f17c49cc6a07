"""A page of the documentation as the steps that it asks its reader to take.

The conventions are those that a reader follows anyway:

- A block whose first line is a comment with a file's name is that file: ``# proj/settings.py``. With ``, at the end``
  after the name the block is appended to the file.
- A ``console`` block has commands after ``$``, and below each command its output. ``...`` stands for anything.
- A command exits with 0, unless ``echo $?`` after it shows another status.
- Where the sentence above a console block ends in "a second later:" or "seconds later:", a worker has to do something
  first. The commands are repeated until they print what is shown.

Every other block is only to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from markdown_it import MarkdownIt

from tests.commands import ROOT

DOCS = ROOT / "docs"

FILE = re.compile(r"(?:#|;|--|//|<!--) (?P<name>[\w./-]+\.\w+)(?P<append>, at the end)?(?: -->)?\n")
LATER = re.compile(r"\bseconds? later:$")


@dataclass(frozen=True)
class File:
    """A file to write."""

    name: str
    text: str
    append: bool = False

    def write(self, directory: Path) -> None:
        path = directory / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert path.exists() or not self.append, f"there is no {self.name} to append to"
        with path.open("a" if self.append else "w") as file:
            file.write(self.text)


@dataclass(frozen=True)
class Command:
    """A command to type, the output that the page shows, and its exit status."""

    typed: str
    output: str = ""
    status: str = "0"

    def prints(self, actual: str) -> bool:
        """Whether this output is the one shown, whatever the amount of white space. ``...`` matches anything."""
        parts = " ".join(self.output.split()).split("...")
        pattern = ".*".join(re.escape(part.strip()) + r"\s*" for part in parts)
        return not self.output or bool(re.fullmatch(pattern, " ".join(actual.split())))


@dataclass(frozen=True)
class Console:
    """The commands of one block. A patient block only looks: it is repeated until it prints what is shown."""

    commands: list[Command]
    is_patient: bool = False


Step = File | Console


def page(name: str) -> list[Step]:
    """The steps of a page, by its name below ``docs/`` without ``.md``."""
    return list(steps((DOCS / f"{name}.md").read_text()))


def steps(text: str) -> Iterator[Step]:
    """The steps of a page's text."""
    above = ""
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "inline":
            above = token.content
        elif token.type == "fence":
            if token.info.partition(" ")[0] == "console":
                yield Console(list(_commands(token.content)), is_patient=bool(LATER.search(above)))
            elif named := FILE.match(token.content):
                body = token.content[named.end() :].lstrip("\n")
                append = bool(named["append"])
                yield File(named["name"], f"\n{body}" if append else body, append)
            above = ""


def _commands(block: str) -> list[Command]:
    commands: list[Command] = []
    for part in re.split(r"^\$ ", re.sub(r" *\\\n *", " ", block), flags=re.MULTILINE)[1:]:
        typed, _, output = part.partition("\n")
        command = Command(re.sub(r"\s{2,}# .*", "", typed), output.strip())
        if command.typed == "echo $?":
            commands[-1] = replace(commands[-1], status=command.output)
        else:
            commands.append(command)
    return commands
