"""What releases have left behind, read by the code as it is now.

A directory per release: ``schema.sql``, its tables with rows in them; ``inbox.json``, its keys in Redis;
``messages.json``, its Celery messages. ``python -m tests.upgrade.freeze`` writes those of the present release; they are
never changed afterwards.
"""
