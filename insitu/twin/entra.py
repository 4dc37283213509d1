"""Entra, and the AD FS of a hub: discovery, and tokens for applications with a secret or a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from insitu.twin.directory import TOKEN_S, Registration
from insitu.twin.estate import Estate
from insitu.twin.journal import Side
from insitu.twin.web import App, Refused, service

HOST = "login.microsoftonline.com"
_ALIASES = [HOST, "login.windows.net", "login.microsoft.com", "sts.windows.net"]
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def hosts(estate: Estate) -> Mapping[str, Side]:
    """Return the hosts that are played here."""
    return {HOST: "public", estate.names.adfs: "hub"}


def app(estate: Estate) -> App:
    """Return the service."""
    return _Entra(estate).app


class _Entra:
    def __init__(self, estate: Estate) -> None:
        self.estate, self.directory = estate, estate.directory
        self.app = service(
            [
                Route("/common/discovery/instance", self.instances),
                Route("/{tenant}/v2.0/.well-known/openid-configuration", self.configuration),
                Route("/adfs/.well-known/openid-configuration", self.adfs_configuration),
                Route("/adfs/oauth2/token", self.adfs_token, methods=["POST"]),
                Route("/adfs/oauth2/token/", self.adfs_token, methods=["POST"]),
                Route("/{tenant}/oauth2/v2.0/token", self.token, methods=["POST"]),
            ]
        )

    async def instances(self, _: Request) -> Response:
        """Answer which hosts are Entra's."""
        known = {"preferred_network": HOST, "preferred_cache": "login.windows.net", "aliases": _ALIASES}
        return JSONResponse(
            {
                "tenant_discovery_endpoint": f"https://{HOST}/common/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [known],
            }
        )

    async def configuration(self, request: Request) -> Response:
        """Answer where a tenant gives tokens."""
        tenant = request.path_params["tenant"]
        self._require_tenant(tenant)
        base = f"https://{HOST}/{tenant}"
        return JSONResponse(
            {
                "issuer": f"{base}/v2.0",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "tenant_region_scope": "EU",
                "cloud_instance_name": "microsoftonline.com",
            }
        )

    async def adfs_configuration(self, request: Request) -> Response:
        """Answer where AD FS gives tokens."""
        self._require_adfs(request)
        base = f"https://{self.estate.names.adfs}/adfs"
        return JSONResponse(
            {
                "issuer": base,
                "token_endpoint": f"{base}/oauth2/token/",
                "authorization_endpoint": f"{base}/oauth2/authorize/",
                "device_authorization_endpoint": f"{base}/oauth2/devicecode",
                "jwks_uri": f"{base}/discovery/keys",
            }
        )

    async def token(self, request: Request) -> Response:
        """Give a token of Entra."""
        tenant = request.path_params["tenant"]
        self._require_tenant(tenant)
        return await self._give(request, tenant, f"https://{HOST}/{tenant}/oauth2/v2.0/token")

    async def adfs_token(self, request: Request) -> Response:
        """Give a token of AD FS."""
        self._require_adfs(request)
        return await self._give(request, "adfs", f"https://{self.estate.names.adfs}/adfs/oauth2/token")

    async def _give(self, request: Request, tenant: str, endpoint: str) -> Response:
        asked = dict(parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True))
        if asked.get("grant_type") != "client_credentials":
            raise _no("unsupported_grant_type", 70003, "The app requested an unsupported grant type.")
        entry = self._signed_in(asked, tenant, endpoint)
        resource = self._resource(asked, tenant)
        return JSONResponse(
            {
                "token_type": "Bearer",
                "expires_in": TOKEN_S,
                "ext_expires_in": TOKEN_S,
                "access_token": self.directory.issue(entry, resource),
            }
        )

    def _signed_in(self, asked: Mapping[str, str], tenant: str, endpoint: str) -> Registration:
        client = asked.get("client_id", "")
        entry = self.directory.find(tenant, client)
        if entry is None:
            text = f"Application with identifier '{client}' was not found in the directory '{tenant}'."
            raise _no("unauthorized_client", 700016, text)
        if self.estate.faults.holds("secret-expired"):
            text = f"The provided client secret keys for app '{client}' are expired."
            raise _no("invalid_client", 7000222, text, 401)
        if "client_assertion" in asked:
            if asked.get("client_assertion_type") != _ASSERTION:
                raise _no("invalid_request", 900144, "The request body must contain 'client_assertion_type'.")
            if not any(entry.signed(asked["client_assertion"], place) for place in (endpoint, endpoint + "/")):
                raise _no("invalid_client", 700027, "Client assertion failed signature validation.", 401)
        elif not entry.has_secret(asked.get("client_secret", "")):
            text = f"Invalid client secret provided for app '{client}'."
            raise _no("invalid_client", 7000215, text, 401)
        return entry

    def _resource(self, asked: Mapping[str, str], tenant: str) -> str:
        """Return what the token is asked for: the one scope that ends in /.default."""
        scopes = [scope for scope in asked.get("scope", "").split() if scope not in _OPENID]
        if len(scopes) != 1 or not scopes[0].endswith("/.default"):
            raise _no("invalid_scope", 1002012, "The provided value for scope is not valid: it ends in /.default.")
        resource = scopes[0].removesuffix("/.default")
        if not self.directory.knows_resource(tenant, resource):
            text = f"The resource principal named {resource} was not found in the tenant named {tenant}."
            raise _no("invalid_resource", 500011, text)
        return resource

    def _require_tenant(self, tenant: str) -> None:
        if not self.directory.knows_tenant(tenant) or tenant == "adfs":
            raise _no(
                "invalid_tenant", 90002, f"Tenant '{tenant}' not found. Check to make sure you have the right one."
            )

    def _require_adfs(self, request: Request) -> None:
        if self.estate.hub_identity != "adfs" or request.url.hostname != self.estate.names.adfs:
            raise Refused(404, {"error": "not_found"})


_OPENID = {"openid", "profile", "offline_access"}


def _no(error: str, code: int, text: str, status: int = 400) -> Refused:
    trace = str(uuid4())
    body: dict[str, Any] = {
        "error": error,
        "error_description": f"AADSTS{code}: {text} Trace ID: {trace}",
        "error_codes": [code],
        "trace_id": trace,
        "correlation_id": trace,
    }
    return Refused(status, body)
