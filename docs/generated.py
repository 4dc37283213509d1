"""A hook of MkDocs: pages that are made when the documentation is built, so that they cannot be stale.

The first page is the README; command line, settings and errors come from the code. Links to files that are no
part of the documentation become their names, once they are known to be there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel

from insitu.cli import main
from insitu.explanations import EXPLANATIONS
from insitu.settings import ModelSettings, SecretSource, SiteSettings
from insitu.settings.words import Slot, in_words, keys_of, slot_at

COMMON = ("as_json", "quiet", "project", "site", "help")
"""Options that nearly every command has: told once."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let the navigation list every decision."""
    decisions = sorted(Path(config.docs_dir).glob("decisions/*.md"))
    assert config.nav
    config.nav[-1]["Decisions"] = [path.relative_to(config.docs_dir).as_posix() for path in decisions]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the first page and the pages of the reference."""
    readme = (Path(config.docs_dir).parent / "README.md").read_text()
    pages = {"index.md": readme.replace("](docs/", "](").replace("](decisions/)", "](architecture.md)")}
    pages |= {"cli.md": "\n".join(cli()), "settings.md": "\n".join(settings()), "errors.md": "\n".join(errors())}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files of the project that are no pages into their names, and take escapes out of code in tables.

    A bar in code needs its escape where GitHub shows the page, and must have none here.
    """
    docs = Path(config.docs_dir).resolve()
    # The first page is the README, which lies one floor further up.
    folder = docs.parent if page.file.src_uri == "index.md" else (docs / page.file.src_uri).parent

    def named(link: re.Match[str]) -> str:
        text, target = link.groups()
        file = target.partition("#")[0]
        path = (folder / file).resolve()
        if "://" in target or not file or path.is_relative_to(docs) or files.get_file_from_path(file):
            return link[0]
        if not path.exists():
            raise PluginError(f"{page.file.src_uri} links to {target}, and there is no such file")
        name = path.relative_to(docs.parent).as_posix()
        return text if name.rpartition("/")[2] in text else f"{text} (`{name}`)"

    linked = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", named, markdown)
    return re.sub(r"^\|.*$", lambda row: re.sub(r"`[^`]*`", _unescaped, row[0]), linked, flags=re.MULTILINE)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let keys reach what scrolls sideways, and give tables at once the classes that the theme's script gives them."""
    html = html.replace("<pre>", '<pre tabindex="0">')
    html = html.replace("<table>", '<div class="scrolls" tabindex="0"><table class="table table-striped table-hover">')
    return html.replace("</table>", "</table></div>")


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Let the theme's switch of light and dark work without highlight.js, whose style sheets it looks for."""
    return output.replace("</head>", '<style id="hljs-light"></style><style id="hljs-dark"></style></head>')


def _unescaped(code: re.Match[str]) -> str:
    return code[0].replace("\\|", "|")


def cli() -> Iterator[str]:
    """Yield the page of the command line: what `--help` says, by command."""
    yield from ("# Command line", "", "What `insitu COMMAND --help` says. Nearly every command has these options:", "")
    yield from ("| option | does |", "|---|---|")
    yield "| `--site NAME` | which file of `deployments/sites/`; `local` without it |"
    yield "| `--project FOLDER` | the project, also by `INSITU_PROJECT`; without it the nearest folder upwards |"
    yield "| `--json` | one JSON value on standard output, also for an error |"
    yield "| `--quiet`, `-q` | errors only, and with `--json` the value |"
    for path, command in _leaves(main, ("insitu",)):
        context = click.Context(command, info_name=" ".join(path))
        yield from ("", f"## {' '.join(path)}", "", f"    {' '.join(path)} {' '.join(_usage(command, context))}", "")
        yield from _text(command.help or "")
        rows = [row for one in command.params if (row := _option_row(one, context))]
        if rows:
            yield from ("", "| option | does |", "|---|---|", *rows)


def _leaves(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            yield from _leaves(command, (*path, name))
        else:
            yield (*path, name), command


def _usage(command: click.Command, context: click.Context) -> Iterator[str]:
    return (piece for piece in command.collect_usage_pieces(context))


def _text(help_text: str) -> Iterator[str]:
    """Yield the help's paragraphs; those that begin with click's mark keep their lines."""
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        kept = paragraph.startswith("\b\n")
        lines = paragraph.removeprefix("\b\n").splitlines()
        yield from (f"    {line}" if kept else line.replace("<", "&lt;") for line in lines)
        yield ""


def _option_row(option: click.Parameter, context: click.Context) -> str | None:
    if option.name in COMMON or not isinstance(option, click.Option) or not (told := option.get_help_record(context)):
        return None
    return "| `{}` | {} |".format(*(_cell(text) for text in told))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def settings() -> Iterator[str]:
    """Yield the page of every key of a site and of a model."""
    yield from ("# Settings", "", "Every key, from the code that checks it. [Sites](sites.md) and the comments in")
    yield "`models/flights/model.toml` explain what belongs together. A variable overrides a key:"
    yield "`INSITU_SITE__COMPUTE__WORK`, `INSITU_MODEL__TRAIN__TIMEOUT_S`."
    for title, file, root in (
        ("A site", "deployments/sites/SITE.toml", SiteSettings),
        ("A model", "models/MODEL/model.toml", ModelSettings),
    ):
        yield from ("", f"## {title}: `{file}`", *_table(root, Slot(root), ()))


def _table(root: type[BaseModel], table: Slot, path: tuple[str | int, ...]) -> Iterator[str]:
    """Yield the keys of one table, then the tables below it."""
    if path:
        yield from ("", f"### {_heading(root, path)}")
    if table.about:
        yield from ("", f"{table.about[0].upper()}{table.about[1:]}.")
    yield from ("", "| key | holds | default |", "|---|---|---|")
    below = []
    for key in keys_of(table.kind):
        slot = slot_at(root, (*path, key))
        assert slot
        inner = _inside(slot, (*path, key))
        if slot.kind is SecretSource:
            yield f'| `{key}` | a secret: `{{ file = "PATH" }}` or `{{ env = "VARIABLE" }}` ({slot.about}) | |'
        elif inner and (child := slot_at(root, inner)) and keys_of(child.kind):
            below.append((child._replace(about=slot.about), inner))
        else:
            kinds = _kinds_with(table.kind, key)
            holds = _cell(in_words(slot)) + (f"; with `kind` {kinds}" if kinds else "")
            yield f"| `{key}` | {holds} | {_default(table.kind, key)} |"
    for child, inner in below:
        yield from _table(root, child, inner)


def _inside(slot: Slot, path: tuple[str | int, ...]) -> tuple[str | int, ...] | None:
    """Return the path of the table that a key holds, also as one of many; None where it can hold none."""
    match get_origin(slot.kind):
        case t if t is dict:
            return (*path, "NAME")
        case t if t is list:
            return (*path, 0)
    return path if keys_of(slot.kind) else None


def _heading(root: type[BaseModel], path: tuple[str | int, ...]) -> str:
    name = ".".join(str(part) for part in path if part != 0)
    text = f"[[{name}]]" if path[-1] == 0 else f"[{name}]"
    return f"`{text}` of a {'site' if root is SiteSettings else 'model'}"


def _models(kind: Any) -> tuple[type[BaseModel], ...]:
    return tuple(one for one in (get_args(kind) or (kind,)) if isinstance(one, type) and issubclass(one, BaseModel))


def _kinds_with(kind: Any, key: str) -> str:
    """Return the kinds of table that know the key, where not all do."""
    models = _models(kind)
    having = [one for one in models if key in one.model_fields]
    if len(having) == len(models):
        return ""
    return ", ".join(f'`"{word}"`' for one in having for word in get_args(one.model_fields["kind"].annotation))


def _default(kind: Any, key: str) -> str:
    field = next(one.model_fields[key] for one in _models(kind) if key in one.model_fields)
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel) or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def errors() -> Iterator[str]:
    """Yield the index of errors."""
    yield from ("# Errors", "", "What each error means, what is kept, and what to do. `insitu explain CODE` says the")
    yield "same in a terminal. A code stays what it is; in JSON it is `error.code`, the class is `error.type`."
    yield from ("", "| code | means |", "|---|---|")
    yield from (f"| [{one.code}](#{one.code.lower()}) | {one.meaning} |" for one in EXPLANATIONS)
    for one in EXPLANATIONS:
        yield from ("", f"## {one.code}", "", f"`{one.kind}`: {one.meaning}", "", "Usual causes:", "")
        yield from (f"- {cause}" for cause in one.causes)
        yield from ("", f"Kept: {one.kept}.", "", "What to do:", "")
        yield from (f"{number}. {step}" for number, step in enumerate(one.to_do, 1))
