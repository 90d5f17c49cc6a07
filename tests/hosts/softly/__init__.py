"""A host whose workspaces, workflows, versions and runs are soft-deleted, by django-safedelete.

It has one test file, ``tests/integration/capture/test_soft_deletion.py``, which runs itself with these settings.
"""
