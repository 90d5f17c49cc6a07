"""``manage.py recent_workflows``, as an operator runs it."""
