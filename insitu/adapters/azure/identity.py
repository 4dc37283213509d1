"""Who insitu signs in as: a service principal of Entra, or of AD FS on a hub that has no way out.

Where a hub's principal signs in, and for whom its tokens are, the hub itself says: nobody has to look up
the audience, which is another one on every hub.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from azure.core import PipelineClient
from azure.core.credentials import AccessToken, TokenCredential
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.core.pipeline.policies import ContentDecodePolicy, ProxyPolicy, RetryPolicy
from azure.core.rest import HttpRequest
from azure.identity import AzureAuthorityHosts, CertificateCredential, ClientSecretCredential
from cryptography import x509

from insitu.adapters.azure.answers import OPTIONS, refused_sign_in, translated
from insitu.adapters.secrets import read_secret
from insitu.errors import BackendUnavailable, InsituError, SettingsError
from insitu.ports import Check
from insitu.readiness import failed_check
from insitu.settings import AzureSettings, HubSettings, Principal

ADFS = "adfs"
_METADATA_VERSION = "2015-01-01"
_CLOUDS = {
    "AzureCloud": (AzureAuthorityHosts.AZURE_PUBLIC_CLOUD, "https://management.azure.com"),
    "AzureChinaCloud": (AzureAuthorityHosts.AZURE_CHINA, "https://management.chinacloudapi.cn"),
    "AzureUSGovernment": (AzureAuthorityHosts.AZURE_GOVERNMENT, "https://management.usgovcloudapi.net"),
}
_KNOWN_AUTHORITIES = {*(host for host, _ in _CLOUDS.values()), "login.windows.net", "login.microsoft.com"}
_RENEW_DAYS = 30


@dataclass(frozen=True)
class Endpoints:
    """What a cloud says of itself: where principals sign in, and for which audience, to the letter, tokens are."""

    authority: str
    audience: str

    @property
    def scope(self) -> str:
        """The scope of tokens for the resource manager."""
        return f"{self.audience}/.default"


class Identity:
    """A credential for Microsoft's SDKs; safe for threads. Nothing is asked before the first token.

    Args:
        who: What people call it, e.g. "the hub's identity provider".
        principal: Whom to sign in as.
        endpoints: Tells where; asked once.
    """

    def __init__(self, who: str, principal: Principal, endpoints: Callable[[], Endpoints]) -> None:
        self.who, self.principal = who, principal
        self._discover = endpoints
        self._endpoints: Endpoints | None = None
        self._credential: TokenCredential | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Identity({self.principal.client_id})"

    @property
    def endpoints(self) -> Endpoints:
        """Where this principal signs in, and for whom tokens are; raise `BackendUnavailable`, `SettingsError`."""
        with self._lock:
            if self._endpoints is None:
                self._endpoints = self._discover()
            return self._endpoints

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token.

        Raises:
            AccessRefused: The identity provider refuses; the next call reads the secret anew.
            BackendUnavailable: It gives no answer.
            SettingsError: There is no secret, or no certificate, where the settings say.
        """
        try:
            return self._inner().get_token(*scopes, **options)
        except ClientAuthenticationError as exc:
            self.forget()
            raise refused_sign_in(self.who, exc) from None
        except InsituError:
            self.forget()
            raise

    def forget(self) -> None:
        """Drop every token: a service has refused one that looked valid, so the next is asked for anew."""
        with self._lock:
            self._credential = None

    def check(self, name: str) -> Check:
        """Sign in for the resource manager; never raises."""
        wanted = f"client {self.principal.client_id} signs in"
        try:
            self.get_token(self.endpoints.scope)
        except InsituError as error:
            return failed_check(name, error, wanted)
        return Check(name, True, f"signed in at {urlsplit(self.endpoints.authority).netloc}", wanted)

    def age_checks(self, name: str) -> Sequence[Check]:
        """Return what should be seen to before it fails: a certificate that ends soon. Never raises."""
        return [_certificate_check(name, self.principal)] if self.principal.certificate else []

    def _inner(self) -> TokenCredential:
        endpoints = self.endpoints
        with self._lock:
            if self._credential is None:
                self._credential = _credential(self.principal, endpoints.authority)
            return self._credential


def hub_identity(hub: HubSettings) -> Identity:
    """Return the identity for the hub: the one of this process."""
    return _hub_identity(os.getpid(), hub)


def azure_identity(azure: AzureSettings) -> Identity:
    """Return the identity for the public cloud: the one of this process."""
    return _azure_identity(os.getpid(), azure)


@cache
def _hub_identity(_process: int, hub: HubSettings) -> Identity:
    return Identity(f"the identity provider of hub {hub.region}", hub.identity, lambda: hub_endpoints(hub))


@cache
def _azure_identity(_process: int, azure: AzureSettings) -> Identity:
    host, audience = _CLOUDS[azure.cloud]
    endpoints = Endpoints(_authority(azure.identity.authority or f"https://{host}"), audience)
    return Identity(f"the identity provider of {azure.cloud}", azure.identity, lambda: endpoints)


def hub_endpoints(hub: HubSettings) -> Endpoints:
    """Ask the hub's resource manager where its principals sign in, and for which audience.

    Raises:
        BackendUnavailable: It does not answer, or not with that.
        AccessRefused: Its certificate is not trusted.
        SettingsError: The hub has AD FS and the settings do not, or the other way round.
    """
    answer = _metadata(hub.arm)
    try:
        authentication = answer["authentication"]
        login, audience = str(authentication["loginEndpoint"]), str(authentication["audiences"][0])
    except (KeyError, IndexError, TypeError):
        raise BackendUnavailable(
            f"{hub.arm}/metadata/endpoints does not answer as a hub does",
            wanted="authentication.loginEndpoint and authentication.audiences",
            next_action="see whether region, fqdn and arm_endpoint under [hub] are right",
        ) from None
    found_adfs = urlsplit(login).path.strip("/").lower() == ADFS
    if found_adfs != (hub.identity.tenant == ADFS) and not hub.identity.authority:
        raise SettingsError(
            "hub.identity.tenant does not fit the hub",
            found=f"{hub.identity.tenant}, and the hub signs in by {'AD FS' if found_adfs else 'Entra'}",
            wanted='"adfs"' if found_adfs else "the id or domain of the directory",
            next_action="mend the site's settings",
        )
    return Endpoints(_authority(hub.identity.authority or login), audience)


def _metadata(arm: str) -> Any:
    policies = [ProxyPolicy(), RetryPolicy(**OPTIONS), ContentDecodePolicy()]
    times = {name: OPTIONS[name] for name in ("connection_timeout", "read_timeout")}
    next_action = "see whether region, fqdn and arm_endpoint under [hub] are right, and the proxy of [network]"
    with (
        translated(f"the resource manager {arm}", next_action=next_action),
        PipelineClient(arm, policies=policies, **times) as client,
    ):
        url = f"{arm}/metadata/endpoints"
        response = client.send_request(HttpRequest("GET", url, params={"api-version": _METADATA_VERSION}))
        if response.status_code != 200:
            raise HttpResponseError(response=response)
        try:
            return response.json()
        except ValueError:
            return None


def _authority(address: str) -> str:
    """Return scheme and host: MSAL appends the tenant itself, and `adfs` is one to it."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _credential(principal: Principal, authority: str) -> TokenCredential:
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)  # what it warns of, our errors tell in better words
    options: dict[str, Any] = OPTIONS | {
        "authority": authority,
        # Only Microsoft's own authorities can be looked up at Microsoft; the others are vouched for by the settings.
        "disable_instance_discovery": urlsplit(authority).netloc not in _KNOWN_AUTHORITIES,
    }
    if principal.secret:
        return ClientSecretCredential(principal.tenant, principal.client_id, read_secret(principal.secret), **options)
    try:
        return CertificateCredential(principal.tenant, principal.client_id, str(principal.certificate), **options)
    except (OSError, ValueError) as exc:
        raise SettingsError(
            f"the certificate {principal.certificate}, which the site's settings name, cannot be used",
            found=type(exc).__name__,
            wanted="a PEM file of the certificate and its RSA private key, without a passphrase",
            next_action="put it there, readable by this user alone, or mend the site's settings",
        ) from None


def _certificate_check(name: str, principal: Principal) -> Check:
    assert principal.certificate
    wanted = f"valid for {_RENEW_DAYS} more days"
    next_action = f"renew {principal.certificate}, and register the new one for client {principal.client_id}"
    try:
        ends = x509.load_pem_x509_certificate(principal.certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError) as exc:
        return Check(name, False, type(exc).__name__, wanted, next_action)
    return Check(
        name, ends - datetime.now(UTC) > timedelta(days=_RENEW_DAYS), f"ends {ends:%Y-%m-%d}", wanted, next_action
    )
