from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models


class Team(models.Model):
    objects: ClassVar[models.Manager[Team]] = models.Manager()

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    number = models.PositiveIntegerField(unique=True)
    disbanded = models.BooleanField(default=False)


class Member(models.Model):
    objects: ClassVar[models.Manager[Member]] = models.Manager()

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class Blueprint(models.Model):
    objects: ClassVar[models.Manager[Blueprint]] = models.Manager()

    code = models.DecimalField(primary_key=True, max_digits=12, decimal_places=2)


class Revision(models.Model):
    objects: ClassVar[models.Manager[Revision]] = models.Manager()

    blueprint = models.ForeignKey(Blueprint, null=True, on_delete=models.SET_NULL)


class Ticket(models.Model):
    objects: ClassVar[models.Manager[Ticket]] = models.Manager()

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE)


class Execution(models.Model):
    objects: ClassVar[models.Manager[Execution]] = models.Manager()

    reference = models.CharField(primary_key=True, max_length=40)
    finished_at = models.DateTimeField(null=True)
    archived = models.BooleanField(default=False)


class Job(Execution):
    objects: ClassVar[models.Manager[Job]] = models.Manager()

    team = models.ForeignKey(Team, to_field="number", null=True, on_delete=models.SET_NULL)
    member = models.ForeignKey(Member, null=True, on_delete=models.SET_NULL)
    ticket = models.ForeignKey(Ticket, null=True, on_delete=models.CASCADE)
    kind = models.CharField(max_length=20, default="real")
    protocol = models.TextField(default="large")
