"""A host whose workspaces, workflows, versions and runs are soft-deleted, by django-safedelete.

Its tests are ``checks``: run by ``once/test_soft_deletion.py``, in a process that has these settings.
"""
