"""The SQL, compiled for the host's models: ``fragments`` of it, statements that write, and statements that look.

Every statement is a function that returns ``(statement, parameters)`` for ``cursor.execute``; none executes anything.
"""
