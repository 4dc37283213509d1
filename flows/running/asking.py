"""Whether the Prefect server answers, and takes the login: for `insitu doctor`, which does not import Prefect."""

from __future__ import annotations

import base64
import json
import os
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from flows.running.server import use_server
from insitu.errors import InsituError
from insitu.ports import Check
from insitu.readiness import failed_check

_WANTED, _LIMIT_S = "a Prefect server at the site that answers", 10.0


def prefect_check(project: Path) -> Check:
    """Ask the server that a run would use; none is no failure, since a run starts a temporary one."""
    environ = dict(os.environ)
    try:
        if not use_server(project, environ):
            return Check("prefect", True, "none runs: a run starts a temporary one, insitu up one with a UI", _WANTED)
    except InsituError as error:
        return failed_check("prefect", error, _WANTED)
    url, login = apart(environ["PREFECT_API_URL"].rstrip("/"))
    return _asked(url, environ.get("PREFECT_API_AUTH_STRING", "") or login)


def apart(url: str) -> tuple[str, str]:
    """Return *url* without the login that it may hold, as nobody is to read it, and that login."""
    split = urlsplit(url)
    login, _, host = split.netloc.rpartition("@")
    return split._replace(netloc=host).geturl(), unquote(login)


def _asked(url: str, login: str) -> Check:
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    direct = build_opener(ProxyHandler({})) if "//127.0.0.1" in url or "//localhost" in url else build_opener()
    try:
        with direct.open(Request(f"{url}/admin/version", headers=headers), timeout=_LIMIT_S) as answer:  # noqa: S310
            found = f"version {json.load(answer)} answers at {url}"
    except HTTPError as refused:
        next_action = "mend PREFECT_API_AUTH_STRING, or services.login of the site"
        return Check("prefect", False, f"{url} answers {refused.code}", _WANTED, next_action)
    except (URLError, OSError, ValueError, HTTPException) as exc:
        next_action = "start it (insitu up), or take PREFECT_API_URL out of the environment"
        return Check("prefect", False, f"{url} gives no answer: {type(exc).__name__}", _WANTED, next_action)
    return Check("prefect", True, found, _WANTED)
