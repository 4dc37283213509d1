"""What commands say to a person: the lines that matter, in order; `...` stands for what differs each time."""

from __future__ import annotations

import re

import pytest
from flow_helpers import PublishedRun

SAID = {
    "history flights": """
 finished... run... state... decision... version...
 20...T...Completed...Promoted... 1 ...champion...roc_auc...
""",
    "show flights": """
flights: PROMOTE
  - ...
  state ...Completed at ...
  batch ...3 blobs, ...MB
  data ...expectations hold, 4,500 rows
  metrics ...roc_auc ...holdout rows
  version ...flights version 1
  image ...sha256:...MB...
  published...oci:...images/flights:1
  took ...validate ...s, train ...s, ...
  blob ...bytes  month=03/flights.parquet
""",
    "retrain flights": """
nothing new: batch ...of flights (3 blobs) was done at ...
flights: PROMOTE
next:
  ...insitu score flights ...
""",
    "retrain flights --batch 1": """
nothing new: batch ...of flights (3 blobs) was done at ...
""",
    "plan flights --batch latest": """
flights at local: ...this batch is done...
""",
    "plan flights": """
flights at local: ...this batch is done...
""",
    "why month=03/flights.parquet": """
flights: month=03/flights.parquet: ...
  run ...Completed, version 1, ...
  because ...
  rule ...
""",
    "explain E-LEAK": """
E-LEAK (LeakFound): What training left holds records of the data...
  causes:
    - ...
  kept:
    - ...
  to do:
    - ...
""",
}


@pytest.mark.parametrize("command", SAID)
def test_a_command_says_what_matters_in_order(published: PublishedRun, command: str) -> None:
    done = published.project.run(*command.split()).require(0)
    assert "\x1b" not in done.out
    said = iter(done.out.splitlines())
    for wanted in SAID[command].strip("\n").splitlines():
        form = ".*".join(re.escape(part).replace(r"\.\.", "..") for part in re.split(r"\.\.\.+", wanted))
        assert any(re.match(form, line) for line in said), (
            f"no line like {wanted!r} after those before it in\n{done.out}"
        )
