"""``{commands}``: a management command's actions and options, from the parser that it makes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from django.core.management import get_commands, load_command_class

from docs.directives.written import Written, anchor

OF_DJANGO_ITSELF = {
    action.dest for action in load_command_class("django.core", "check").create_parser("", "")._actions
} - {"tags", "app_label"}


class CommandsReference(Written):
    """Its argument is the command. ``--json`` is left out: nearly every action has it, which the page says once."""

    required_arguments = 1

    def markdown(self) -> Iterable[str]:
        command = self.arguments[0]
        for action in sorted(actions(command), key=lambda action: action.name):
            usage = " ".join([action.name, *(_usage(each) for each in action.arguments)])
            yield from (f"({anchor(command, action.name)})=", f"`{usage}`", f": {action.meaning}", "")
            for each in action.arguments:
                yield from (f"  `{_called(each)}`", f"  : {each.help}", "")


def app_of(command: str) -> str:
    """The app that has the command."""
    return get_commands()[command]


class Action(NamedTuple):
    """``manage.py COMMAND NAME``, what it does, and its own arguments."""

    name: str
    meaning: str
    arguments: list[argparse.Action]


def actions(command: str) -> list[Action]:
    """All of a command."""
    parser = load_command_class(app_of(command), command).create_parser("manage.py", command)
    (found,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    meanings = {choice.dest: str(choice.help) for choice in found._choices_actions}
    return [Action(name, meanings[name], list(_own(each))) for name, each in found.choices.items()]


def _own(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in parser._actions if action.dest not in {*OF_DJANGO_ITSELF, "help", "json"})


def _usage(action: argparse.Action) -> str:
    optional = not action.required or action.nargs == "?"
    return f"[{_called(action)}]" if optional else _called(action)


def _called(action: argparse.Action) -> str:
    value = str(action.metavar or action.dest).upper()
    if not action.option_strings:
        return value
    return action.option_strings[-1] if action.nargs == 0 else f"{action.option_strings[-1]} {value}"
