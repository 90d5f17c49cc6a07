"""A page of the documentation as what it asks its reader to do, in order.

The conventions are those a reader follows anyway:

- A block whose first line is a comment with a file's name is that file: ``# proj/settings.py``. With ``, at the end``
  behind the name it goes to the end of a file that is there.
- A ``console`` block has commands after ``$``, and below each what it prints; ``...`` stands for anything.
- A command ends well, unless ``echo $?`` comes after it and shows another exit status.
- Where the text above a console block ends in "a second later:" it is for a worker to do something first: the commands
  are repeated until they print what is shown.

Other blocks are only to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from markdown_it import MarkdownIt

from tests.commands import ROOT

DOCS = ROOT / "docs"

FILE = re.compile(r"(?:#|;|--|//) (?P<name>[\w./-]+\.\w+)(?P<end>, at the end)?\n")


@dataclass(frozen=True)
class File:
    """Something to write."""

    name: str
    text: str
    at_the_end: bool

    def write(self, directory: Path) -> None:
        path = directory / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.at_the_end:
            assert path.exists(), f"nothing to add to: {self.name}"
        with path.open("a" if self.at_the_end else "w") as written:
            written.write(self.text)


@dataclass(frozen=True)
class Command:
    """Something to type, and what the page says it prints."""

    typed: str
    printed: str
    status: str = "0"
    """Its exit status."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """What is shown, whatever the amount of space; ``...`` is anything, or nothing."""
        shown = " ".join(self.printed.split())
        return re.compile(".*".join(re.escape(part.strip()) + r"\s*" for part in shown.split("...")))

    def is_as_shown(self, output: str) -> bool:
        return not self.printed or bool(self.pattern.fullmatch(" ".join(output.split())))


@dataclass(frozen=True)
class Console:
    """Commands of one block."""

    commands: list[Command]
    patient: bool
    """To be repeated until they print what is shown: they only look."""


@dataclass(frozen=True)
class Page:
    """A page by its name below ``docs/``, without ``.md``."""

    name: str
    steps: list[File | Console] = field(default_factory=list)

    @classmethod
    def read(cls, name: str) -> Page:
        return cls(name, list(steps((DOCS / f"{name}.md").read_text())))

    @property
    def commands(self) -> list[str]:
        return [command.typed for step in self.steps if isinstance(step, Console) for command in step.commands]


def steps(text: str) -> Iterator[File | Console]:
    """What the text of a page asks for."""
    above = ""
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "inline":
            above = token.content
        elif token.type == "fence":
            language = token.info.partition(" ")[0]
            if language == "console":
                yield Console(list(_commands(token.content)), patient=above.endswith("a second later:"))
            elif named := FILE.match(token.content):
                body = token.content[named.end() :].lstrip("\n")
                yield File(named["name"], f"\n{body}" if named["end"] else body, bool(named["end"]))
            above = ""


def _commands(block: str) -> Iterator[Command]:
    found: list[Command] = []
    for part in re.split(r"^\$ ", re.sub(r" *\\\n *", " ", block), flags=re.MULTILINE)[1:]:
        typed, _, printed = part.partition("\n")
        command = Command(re.sub(r"\s{2,}# .*", "", typed), printed.strip())
        if command.typed == "echo $?":
            found[-1] = replace(found[-1], status=command.printed)
        else:
            found.append(command)
    return iter(found)
