"""How fast it is, beside its rivals and the limits, on the same data in the same run.

``python -m benchmarks`` runs everything and writes ``docs/benchmarks.md``. A module a question::

    stage        servers set for measuring, the demo's host, history with a real platform's skew at any scale
    reads        a home page's read: plain, fresh, three other ways, and a primary key look-up
    saves        what a save costs more: time, statements, round trips, WAL
    statements   one statement over many runs, with and without triggers; a pass or a walk
    flushes      runs a second of one worker; a flush beside a transaction that is held open
    freshness    from commit to visible: by load, by raw SQL, during a backfill
    filling      history into the table: a backfill and one statement

``peers`` are other ways to follow a save; ``timing`` takes the times, ``figures`` keeps them, ``goals`` judges them,
``page`` shows them.
"""
