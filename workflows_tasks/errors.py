"""Every error this package raises, in one hierarchy. Each message says what to do about it."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured


class RecentWorkflowsError(Exception):
    """Base of every error raised by this package."""


class ConfigurationError(RecentWorkflowsError, ImproperlyConfigured):
    """``RECENT_WORKFLOWS`` cannot be used as it is.

    ``id`` is the system check that reports it and ``hint`` the fix, so that the exception, ``manage.py check`` and
    the documentation name the same thing.
    """

    def __init__(self, msg: str, *, hint: str, id: str) -> None:
        super().__init__(f"{msg} {hint} ({id})")
        self.msg = msg
        self.hint = hint
        self.id = id


class InvalidArgument(RecentWorkflowsError, ValueError):
    """A caller passed something that cannot be meant; nothing was read or written."""


class ClaimLost(RecentWorkflowsError):
    """A flush outlived its claim's lease. It must not write; whoever took the ids over does."""


class NothingCommits(RecentWorkflowsError):
    """A flush was asked for on a connection whose autocommit is off; nothing was written."""


class InboxUnavailable(RecentWorkflowsError):
    """Redis did not answer in time. The save path counts it and goes on; workers and commands report it."""
