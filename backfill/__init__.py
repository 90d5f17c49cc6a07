"""Fills millions of runs of history into the table, while live traffic goes on.

::

    control     plan, start, pause, resume, cancel, set the concurrency, status
    planner     counts runs per workspace, packs them into chunks, stores those once
    tasks       tick: asks for workers · work: claims and works          ─┐
    leases      who works on which chunk                                  │
    worker      a batch at a time: fill and commit, or compare            │ while it runs
    lifecycle   how it goes on after a failure, and when all is done      │
    throttle    why it waits                                             ─┘
    progress    how far it is, and when it will be done · console: that as text
    coverage    whether a workspace's history is in, and where a chunk explains a difference
    ranges      steps: positions in the order of (workspace, run)
    models      Backfill, Chunk · states: every change of status, and why
    log         a line for everything that happens to a backfill
"""
