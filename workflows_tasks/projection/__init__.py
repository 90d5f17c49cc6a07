"""The projection: from the change log to the table. ``flush`` decides, ``writer`` writes, ``searches`` look."""
