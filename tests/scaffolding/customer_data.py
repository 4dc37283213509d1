"""Made-up data as people have it, and the type of the command's fixture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from click.testing import Result

Init = Callable[..., Result]


def customers(seed: int, rows: int = 400, month: int = 1) -> pd.DataFrame:
    """Return made-up customers of a month: names beyond ASCII, gaps, categories, dates, a key, free text."""
    rng = np.random.default_rng(seed)
    size = rng.normal(170, 10, rows).round(1)
    street = rng.choice(["Süd", "Nord", "Öst", None], rows)
    happy = (size - 170) / 10 + (street == "Süd") + rng.normal(size=rows) > 0.4
    return pd.DataFrame(
        {
            "Kunden Nr": np.arange(rows) + month * 100_000,
            "Größe (cm)": size,
            "Alter": pd.array(np.where(rng.random(rows) < 0.1, None, rng.integers(18, 90, rows)), dtype="Int64"),
            "Straße": street,
            "seit": pd.date_range(f"2026-{month:02d}-01", periods=rows, freq="h").strftime("%Y-%m-%d"),
            "Umsatz": rng.lognormal(3, 1.5, rows).round(2),
            "Notiz": [f"Anruf {number}, „später“" for number in rng.integers(0, 10**9, rows)],
            "Ergebnis": np.where(happy, "ja", "nein"),
        }
    )
