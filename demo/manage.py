#!/usr/bin/env python
"""Django's command line for the demo host, against the servers named in the environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

    from django.core.management import execute_from_command_line

    import celeryconfig  # noqa: F401  # this host's Celery app

    execute_from_command_line(sys.argv)
