"""Blob storage of the workspace: the other account of the estate's Azurite, with a signature, a key or a token."""

from __future__ import annotations

from collections.abc import Mapping

import urllib3
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from insitu.twin.estate import Estate
from insitu.twin.forwarding import forward
from insitu.twin.journal import Side
from insitu.twin.sas import Key, SignedBlobs
from insitu.twin.web import App, Refused, service

AUDIENCE = "https://storage.azure.com"
_METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE"]
_ERROR = '<?xml version="1.0" encoding="utf-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'
_WRITES = "Storage Blob Data Contributor"


def hosts(estate: Estate) -> Mapping[str, Side]:
    """Return the hosts that are played here."""
    return {estate.names.workspace_blob: "public"}


def app(estate: Estate) -> App:
    """Return the service."""

    async def serve(request: Request) -> Response:
        if not request.headers.get("authorization", "").lower().startswith("bearer"):
            return await forward(request, estate.storage().port)
        try:
            _require_role(estate, request)
        except Refused as refusal:
            code = "AuthorizationPermissionMismatch" if refusal.status == 403 else "InvalidAuthenticationInfo"
            headers = {**refusal.headers, "x-ms-error-code": code}
            return Response(_ERROR.format(code, "The token does not allow this."), refusal.status, headers)
        query = request.scope["query_string"].decode("latin-1")
        signed = "&".join(part for part in (query, key_of(estate).account_sas()) if part)
        target = f"{request.scope['raw_path'].decode('latin-1')}?{signed}"
        return await forward(request, estate.storage().port, headers={"authorization": ""}, target=target)

    return service([Route("/{path:path}", serve, methods=_METHODS)])


def key_of(estate: Estate) -> Key:
    """Return the name and key of the workspace's storage account."""
    account = estate.names.workspace_account
    return Key(account, estate.account_key(account).read_text())


def inside(estate: Estate) -> SignedBlobs:
    """Return the account as services of Azure see it: without the proxy and its log."""
    base = estate.storage().url(estate.names.workspace_account)
    return SignedBlobs(base, key_of(estate).account_sas(24 * 365), urllib3.PoolManager())


def outside(estate: Estate) -> SignedBlobs:
    """Return the account as machines of the site see it: through the proxy, as any request to a public host."""
    timeout = urllib3.Timeout(connect=10, read=60)
    pool = urllib3.ProxyManager(estate.proxy, ca_certs=str(estate.authority.bundle), timeout=timeout)
    return SignedBlobs(f"https://{estate.names.workspace_blob}", key_of(estate).account_sas(24 * 7), pool)


def _require_role(estate: Estate, request: Request) -> None:
    directory = estate.directory
    who = directory.check(request.headers, AUDIENCE, estate.names.tenant)
    action = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write"
    directory.require(who, estate.names.group_id, action, _WRITES)
