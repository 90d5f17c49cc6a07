"""The projection: from the change log to the table.

``chain`` sends one flush after another, ``flush`` decides, ``writer`` writes, ``searches`` look.
"""
