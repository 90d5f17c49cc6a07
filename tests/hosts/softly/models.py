from __future__ import annotations

from django.db import models
from django.utils import timezone
from safedelete import SOFT_DELETE, SOFT_DELETE_CASCADE
from safedelete.models import SafeDeleteModel


class Site(SafeDeleteModel):
    """A workspace; what belongs to it stays as it is."""

    _safedelete_policy = SOFT_DELETE


class Page(SafeDeleteModel):
    """A workflow; its editions are hidden with it."""

    _safedelete_policy = SOFT_DELETE_CASCADE


class Edition(SafeDeleteModel):
    """A version."""

    _safedelete_policy = SOFT_DELETE

    page = models.ForeignKey(Page, on_delete=models.CASCADE)


class Visit(SafeDeleteModel):
    """A run."""

    _safedelete_policy = SOFT_DELETE

    site = models.ForeignKey(Site, null=True, on_delete=models.SET_NULL)
    visitor = models.CharField(max_length=40)
    edition = models.ForeignKey(Edition, null=True, on_delete=models.SET_NULL)
    seen_at = models.DateTimeField(default=timezone.now)
    screenshot = models.TextField(default="large")
