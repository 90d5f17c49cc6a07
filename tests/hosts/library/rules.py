from __future__ import annotations

from django.db.models import Q


def counts() -> Q:
    """Loans that count as a use: not those of a branch that has closed."""
    return Q(voided=False, branch__closed=False)
