"""Exactness over long and unkind histories.

``test_properties``     any sequence of changes, losses and interruptions, in one process, stepped by hypothesis
``test_kill_*``         real workers and beat, killed at each step of a flush; ``python -m tests.endurance.kill_matrix``
``test_redis_emptied``  what only the sweep can find
``soak``                hours in minutes: writers, workers and servers under random killing; ``make soak``
"""
