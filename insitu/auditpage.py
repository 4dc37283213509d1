"""An audit as one page: what was asked and answered, and what left."""

from __future__ import annotations

from insitu.auditing import Audit
from insitu.pages import render


def page(audit: Audit) -> str:
    """Return *audit* as HTML that loads nothing from elsewhere and runs no script."""
    return render("audit.html", audit=audit)
