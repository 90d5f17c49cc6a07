"""Capture: every write to the host's tables leaves a change in the log, in the writer's own transaction."""
