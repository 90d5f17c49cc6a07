from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone


class Branch(models.Model):
    objects: ClassVar[models.Manager[Branch]] = models.Manager()

    slug = models.SlugField(primary_key=True)
    closed = models.BooleanField(default=False)


class Title(models.Model):
    objects: ClassVar[models.Manager[Title]] = models.Manager()

    number = models.SmallAutoField(primary_key=True)
    name = models.CharField(max_length=100, default="A book")


class Loan(models.Model):
    objects: ClassVar[models.Manager[Loan]] = models.Manager()

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    branch = models.ForeignKey(Branch, on_delete=models.CASCADE)
    borrower = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    title = models.ForeignKey(Title, on_delete=models.CASCADE)
    borrowed_at = models.DateTimeField(default=timezone.now)
    voided = models.BooleanField(default=False)
    receipt = models.TextField(default="large")

    class Meta:
        indexes = [models.Index(fields=["branch", "-borrowed_at"], name="loan_by_branch")]


class Renewal(Loan):
    objects: ClassVar[models.Manager[Renewal]] = models.Manager()

    class Meta:
        proxy = True
