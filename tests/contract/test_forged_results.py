"""A training command that writes the job's result itself is not believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from job_places import make_place

from insitu.adapters.local.jobs import ProcessJobs
from insitu.errors import TrainingFailed

FORGE = """
import os, signal
from pathlib import Path

folder = Path(os.environ["INSITU_OUTPUT"]).parent
(folder / "result.json").write_text('{"metrics": {"challenger": {"roc_auc": 1.0}}}')
"""


@pytest.mark.parametrize("ending", ["", "os.kill(os.getppid(), signal.SIGKILL)"], ids=["leaves", "ends the job"])
def test_a_forged_result_is_no_result(tmp_path: Path, ending: str) -> None:
    place = make_place(lambda root: ProcessJobs(root / "jobs"), tmp_path)
    (place.folder / "train.py").write_text(FORGE + ending)
    assert isinstance(place.error("forged", place.spec()), TrainingFailed)
