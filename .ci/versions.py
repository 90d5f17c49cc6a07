"""What each step of .ci/run runs with, as steps.toml declares it.

python .ci/versions.py check STEP   fail unless this interpreter and its packages are the declared ones
python .ci/versions.py write        write the table into docs/reference/versions.md
python .ci/versions.py current      fail unless that page has the table
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "reference" / "versions.md"
BEGIN, END = "<!-- from .ci/steps.toml by .ci/versions.py -->\n", "<!-- end -->\n"
COLUMNS = {
    "python": "Python",
    "django": "Django",
    "celery": "Celery",
    "kombu": "kombu",
    "redis-py": "redis-py",
    "driver": "driver",
    "postgresql": "PostgreSQL",
    "pooler": "pooler",
    "redis": "markers",
    "broker": "broker",
}
DISTRIBUTIONS = {"django": "Django", "celery": "celery", "kombu": "kombu", "redis-py": "redis"}

Step = Mapping[str, str]


def steps() -> dict[str, Step]:
    """Every step that stands for versions, by name."""
    loaded: dict[str, Step] = tomllib.loads((HERE / "steps.toml").read_text())
    return loaded


def product(cell: str) -> tuple[str, str]:
    """``RabbitMQ 4.3, quorum queues`` is ``("RabbitMQ", "4.3")``."""
    name, number = cell.partition(",")[0].split()
    return name, number


def is_of(actual: str, declared: str) -> bool:
    """Whether a version is the declared one or a release of its series: 5.1.3 is of 5.1, 5.10 is not."""
    return f"{actual}.".startswith(f"{declared}.")


def wrong_packages(step: Step) -> Iterator[str]:
    """What of this interpreter is not as declared."""
    python = ".".join(map(str, sys.version_info[:3]))
    if not is_of(python, step["python"]):
        yield f"Python {step['python']} is declared, {python} runs"
    driver, number = product(step["driver"])
    for name, declared in {**{d: step[key] for key, d in DISTRIBUTIONS.items()}, driver: number}.items():
        actual = _version(name)
        if not is_of(actual, declared):
            yield f"{name} {declared} is declared, {actual} is installed"
    if driver == "psycopg2" and _version("psycopg") != "none":
        yield "psycopg is installed: Django would take it in place of psycopg2"


def _version(distribution: str) -> str:
    """psycopg2 is installed as its binary distribution."""
    for name in (distribution, f"{distribution}-binary"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "none"


def table() -> str:
    """The page's table, in Markdown."""
    rows = [
        ["step", "runs", *COLUMNS.values()],
        ["---"] * (2 + len(COLUMNS)),
        *([f"`{name}`", step["runs"], *(step.get(key, "") for key in COLUMNS)] for name, step in steps().items()),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def page() -> str:
    """The page with the table that steps.toml makes."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{table()}\n{END}", PAGE.read_text())


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["check"] and len(arguments) == 2:
        wrong = list(wrong_packages(steps()[arguments[1]]))
    elif arguments == ["write"]:
        wrong = []
        PAGE.write_text(page())
    elif arguments == ["current"]:
        wrong = [] if PAGE.read_text() == page() else [f"{PAGE} is out of date: python .ci/versions.py write"]
    else:
        wrong = [__doc__ or ""]
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
