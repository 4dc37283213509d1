"""Show what came of a run: the image and how to run it, what left the site, and where to look further."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.artifacts import create_markdown_artifact

from insitu.reporting.run_cards import end_card, headline
from insitu.runs import Run
from insitu.settings import MlflowModels
from tasks.showing import show


def show_end(run: Run, record: Mapping[str, Any]) -> None:
    """Show the record of a run that has ended; whatever is wrong with that, the run's end is told otherwise, too."""
    show(_show, run, record)


def _show(run: Run, record: Mapping[str, Any]) -> None:
    settings = run.site.settings
    ui = f"http://{settings.services.mlflow_host}:{settings.services.mlflow_port}"
    card = end_card(record, ui if isinstance(settings.models, MlflowModels) else None)
    create_markdown_artifact(card, key=f"result-{run.model.name}", description=headline(record))
