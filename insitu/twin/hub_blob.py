"""Blob storage of the hub: a real Azurite behind the hub's rules, which are older than Azure's."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate

import urllib3
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from insitu.twin.estate import Estate
from insitu.twin.forwarding import forward
from insitu.twin.journal import Side
from insitu.twin.sas import Key, SignedBlobs
from insitu.twin.web import App, Refused, service

NEWEST_VERSION = "2019-07-07"
"""The newest service version that a hub (2008 and later) speaks."""
_METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE"]
_LATER_QUERIES = {"tags": "2019-12-12", "versionid": "2019-12-12"}
_ERROR = '<?xml version="1.0" encoding="utf-8"?>\n<Error><Code>{}</Code><Message>{}</Message>{}</Error>'


def hosts(estate: Estate) -> Mapping[str, Side]:
    """Return the hosts that are played here."""
    return {estate.names.hub_blob: "hub"}


def app(estate: Estate) -> App:
    """Return the service."""

    async def serve(request: Request) -> Response:
        try:
            _require_spoken(request)
        except Refused as refusal:
            return Response(refusal.body, refusal.status, refusal.headers, "application/xml")
        answer = await forward(request, estate.storage().port)
        answer.headers["date"] = formatdate(estate.now(), usegmt=True)
        return answer

    return service([Route("/{path:path}", serve, methods=_METHODS)])


def make_containers(estate: Estate, *more: str) -> None:
    """Make the containers of data and state, and *more*, unless they are there, as an operator does.

    Raises:
        UsageError: Azurite is not installed.
    """
    account = estate.names.hub_account
    key = Key(account, estate.account_key(account).read_text())
    blobs = SignedBlobs(estate.storage().url(account), key.account_sas(), urllib3.PoolManager())
    for container in (estate.names.data_container, estate.names.state_container, *more):
        blobs.make_container(container)


def _require_spoken(request: Request) -> None:
    version = request.headers.get("x-ms-version") or request.query_params.get("sv", "")
    if version > NEWEST_VERSION:
        raise _no(
            400,
            "InvalidHeaderValue",
            "The value for one of the HTTP headers is not in the correct format.",
            f"<HeaderName>x-ms-version</HeaderName><HeaderValue>{version}</HeaderValue>",
        )
    signed = request.query_params.get("sv", "")
    if signed > NEWEST_VERSION:
        raise _no(403, "AuthenticationFailed", "Server failed to authenticate the request: sv is not supported.")
    if request.headers.get("authorization", "").lower().startswith("bearer"):
        raise _no(401, "InvalidAuthenticationInfo", "Authentication scheme Bearer is not supported.")
    named = {*request.query_params.get("include", "").split(","), request.query_params.get("comp", "")}
    named |= {key.lower() for key in request.query_params}
    if later := sorted(named & {"versions", *_LATER_QUERIES}):
        raise _no(400, "InvalidQueryParameterValue", f"{later[0]} is not supported by version {version}.")


def _no(status: int, code: str, message: str, more: str = "") -> Refused:
    return Refused(status, _ERROR.format(code, message, more), {"x-ms-error-code": code})
