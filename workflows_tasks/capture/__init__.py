"""Capture: every write to the host's tables leaves a change in the log, in the writer's own transaction.

``tables`` says which tables and columns matter, ``triggers`` composes the SQL, ``installation`` executes it. ``watch``
compares the ``catalogue`` with what should be, ``record`` keeps what all processes have agreed on. ``nudge`` follows
the commit of a Django save.
"""
