"""What the commands have in common: actions with arguments of their own, ``--json``, errors that say the fix."""

from __future__ import annotations

import argparse
import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from workflows_tasks.errors import RecentWorkflowsError


class ActionCommand(BaseCommand):
    """A command whose first argument names the method that carries it out: ``status`` is ``_status(**options)``."""

    def add_action(self, actions: Any, name: str, help_text: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=help_text, description=help_text)
        action.add_argument("--json", action="store_true", help="for machines")
        return action

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            getattr(self, f"_{action}")(**options)
        except RecentWorkflowsError as error:
            raise CommandError(str(error)) from error

    def print_json(self, found: Any) -> None:
        self.stdout.write(json.dumps(found, indent=2))
