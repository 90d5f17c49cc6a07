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


class GrainNotStored(InvalidArgument):
    """A page of a grain was asked for that ``GRAINS`` leaves out."""


class WrongShards(RecentWorkflowsError):
    """This process is set to another number of shards than the database; it must not flush."""


class NothingCommits(RecentWorkflowsError):
    """A flush was asked for on a connection whose autocommit is off; nothing was written."""


class NotInstalled(RecentWorkflowsError):
    """Triggers or the change log are missing, or another session kept them from being installed."""
