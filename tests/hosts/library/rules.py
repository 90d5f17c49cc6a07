from __future__ import annotations

from django.db.models import Q


def counts() -> Q:
    """Loans that count as a use."""
    return Q(voided=False)
