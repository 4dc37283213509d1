"""`insitu plan`: what a run would do, told before it does."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from insitu.options import batch_option, json_option, model_argument, project_option, site_option


@click.command()
@model_argument
@site_option
@batch_option
@json_option
@project_option
def plan(project: Path, model: str, site: str, batch: str | None, as_json: bool) -> None:
    """Tell what `insitu retrain MODEL` would do now, and what would leave the site; nothing is done.

    Data and what is read of it, what training needs and how long it would take, whom the new model would meet, where
    its image would go, and whether everything is ready. Only footers and headers of blobs are read: of more than a few
    hundred blobs those of some, so that rows and bytes are estimates.

    The plan's hash is written into the record of the run that does just that.
    """
    from insitu.commands.batches import manifest_file
    from insitu.planning.plan import forecast_of, outlook
    from insitu.runs import open_run

    run = open_run(project, model, site, manifest_file(project, site, model, batch))
    seen = outlook(run)
    from data_checks.baseline import DriftCheck
    from data_checks.foresight import foresee_some  # after what can go wrong: it may take seconds
    from data_checks.suite import load_suite

    validation = foresee_some(
        load_suite(run.suite_file),
        run.site.data(run.batch.container),
        run.batch,
        reading=run.model.data.reading,
        state=run.site.state,
        drift=DriftCheck(run.model.drift, run.training_part),
    )
    told = seen | {"validation": asdict(validation), "forecast": forecast_of(run, validation.rows)}
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        from insitu.planning.text import print_plan

        print_plan(told)
