"""How fast it is, beside its rivals and the limits, on the same data in the same run.

``python -m benchmarks`` runs everything and writes ``docs/benchmarks.md``. A module a question::

    stage         servers set for measuring, the demo's host, history with a real platform's skew at any scale
    reads         a home page's read: ours, four other ways, and a primary key look-up
    saves         what a save costs more: time, statements, round trips, messages, WAL
    indexed       what the indexes of a loose index scan cost a save
    write_behind  runs a second of one worker: ours, a task per save, celery-batches, one SQL statement
    freshness     from commit to visible: by load, during a backfill, after a worker's restart
    filling       history into the table: ours and three rivals
    growth        all of that by the length of history; an estimate on paper for a hundred times more

``rivals`` are other ways to read, ``peers`` other ways to follow a save; ``timing`` takes the times, ``figures`` keeps
them, ``goals`` judges them, ``page`` and ``plots`` show them.
"""
