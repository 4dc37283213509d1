"""Libraries that others import at once and hardly ever use: they are there when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEFERRED = """
import sys
from data_checks.deferred import defer

defer("scipy.stats", "no_such_library")
assert type(sys.modules["scipy.stats"]).__name__ != "module"
"""
USES = {
    "in Great Expectations": """
import sys
from data_checks.engine import prepare

prepare()
waiting = {name for name in ("altair", "scipy.stats") if type(sys.modules[name]).__name__ != "module"}
assert waiting == {"altair", "scipy.stats"}, f"imported at once: {waiting}"
from great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as kl
assert abs(kl.stats.entropy([1, 1]) - 0.693147) < 1e-6
import altair
assert altair.Chart(altair.Data(values=[])).mark_bar().to_dict()["mark"]
""",
    "that Great Expectations finds and never uses": """
import sys
from data_checks.engine import prepare

prepare()
assert not {"azure", "pyspark", "sqlalchemy"} & set(sys.modules)
import azure.core, sqlalchemy
""",
    "a part of it": f"""{DEFERRED}
import scipy.stats.qmc
assert scipy.stats.qmc.Sobol and scipy.stats.norm.cdf(0) == 0.5
""",
    "by many at once": f"""{DEFERRED}
from concurrent.futures import ThreadPoolExecutor
from scipy import stats
with ThreadPoolExecutor(8) as pool:
    assert list(pool.map(lambda _: stats.norm.cdf(0), range(32))) == [0.5] * 32
""",
    "there before": """
import scipy.stats
from data_checks.deferred import defer

defer("scipy.stats")
assert type(scipy.stats).__name__ == "module"
""",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_library_is_imported_when_it_is_used(use: str) -> None:
    done = subprocess.run([sys.executable, "-c", use], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
