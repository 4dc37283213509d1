"""Opens the settings of a site, of a model, or of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from insitu.errors import Problem
from insitu.settings.loading import Kind, collecting, load
from insitu.settings.model import ModelSettings
from insitu.settings.site import SiteSettings
from insitu.settings.sources import failure

_SITE = Kind(SiteSettings, "deployments/sites/*.toml", "INSITU_SITE__")
_MODEL = Kind(ModelSettings, "models/*/model.toml", "INSITU_MODEL__")


def load_site(project: Path, name: str, environ: Mapping[str, str]) -> SiteSettings:
    """Return the settings of the site *name*; its relative paths start at *project*.

    Raises:
        SettingsError: All problems of the file and of the INSITU_ variables.
    """
    return load(_SITE, project, name, environ, known_variables=_variables())


def load_model(project: Path, name: str, environ: Mapping[str, str]) -> ModelSettings:
    """Return the settings of the model *name*.

    Raises:
        SettingsError: All problems of the file and of the INSITU_ variables.
    """
    return load(_MODEL, project, name, environ, known_variables=_variables())


def load_settings(
    project: Path, site: str, model: str, environ: Mapping[str, str]
) -> tuple[SiteSettings, ModelSettings]:
    """Return the settings of both.

    Raises:
        SettingsError: All problems of both files and of the INSITU_ variables.
    """
    problems: list[Problem] = []
    with collecting(problems):
        site_settings = load_site(project, site, environ)
    with collecting(problems):
        model_settings = load_model(project, model, environ)
    if not problems:
        problems += _unmet(site_settings, model_settings)
    if problems:
        raise failure(problems)
    return site_settings, model_settings


def _unmet(site: SiteSettings, model: ModelSettings) -> Iterator[Problem]:
    """Yield what targets of the model want of the site, and it does not have."""
    for target in model.targets(site.name):
        has = {"registry": site.registry, "a table [azure]": site.azure}
        wanted = {"kubernetes": ("registry",), "azure-ml-endpoint": ("registry", "a table [azure]")}.get(
            target.kind, ()
        )
        for one in wanted:
            if not has[one]:
                place = f"{one} in {_SITE.file(site.name)}, which {target.kind} needs; or another list of sites"
                yield Problem(_MODEL.file(model.name), None, f"deploy {target.name}", target.kind, place)


def _variables() -> tuple[str, ...]:
    return (*_SITE.variables(), *_MODEL.variables())
