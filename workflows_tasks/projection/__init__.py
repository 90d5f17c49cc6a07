"""The projection: from the change log to the table.

``chain`` sends one flush after another. A ``flush`` is a series of ``slices``. Each takes ``changes``, resolves
``scopes``, makes ``decisions`` with the help of ``searches``, and has the ``writer`` write. ``backlog`` tells what
waits.
"""
