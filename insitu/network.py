"""How this process reaches services outside of its machine: proxy and authorities, by the standard variables.

Microsoft's SDKs build clients of their own that take no options, so the environment is the one place that all obey.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from insitu.errors import SettingsError
from insitu.settings import NetworkSettings

_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""What requests and the SDKs on it obey, and what everything else obeys."""

_PROXIES = ("HTTPS_PROXY", "https_proxy")
_LOOPBACK = ("127.0.0.1", "localhost")
"""Never behind a proxy: Prefect's own server is there, and its clients ask the proxy for it otherwise."""


def use_network(network: NetworkSettings) -> None:
    """Set the standard variables to what the site's [network] says; what it leaves open stays as it is.

    Where only one of the variables for authorities is set, the other one follows it: some clients know the one,
    some the other. Behind a proxy this machine is still reached directly.

    Raises:
        SettingsError: `ca_bundle` is no file of certificates, which each client would tell in words of its own.
    """
    if network.ca_bundle:
        count_authorities(network.ca_bundle)
    if network.proxy:
        os.environ["HTTPS_PROXY"] = os.environ["https_proxy"] = network.proxy
    direct = network.no_proxy or (os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "").split(",")
    if network.no_proxy or any(map(os.environ.get, _PROXIES)):
        direct = [host for host in dict.fromkeys([*direct, *_LOOPBACK]) if host]
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(direct)
    named = str(network.ca_bundle or "") or next(filter(None, map(os.environ.get, _AUTHORITIES)), "")
    for variable in _AUTHORITIES:
        if network.ca_bundle or (Path(named).is_file() and not os.environ.get(variable)):
            os.environ[variable] = named


def count_authorities(bundle: Path) -> int:
    """Return how many authorities *bundle* holds; raise `SettingsError` when it cannot be read as such."""
    try:
        return len(ssl.create_default_context(cafile=str(bundle)).get_ca_certs())
    except OSError as exc:  # also of the ssl module
        raise SettingsError(
            "ca_bundle of the site's [network] cannot be read",
            found=f"{bundle}: {exc.strerror or type(exc).__name__}",
            wanted="a PEM file of certificates",
            next_action="mend network.ca_bundle",
        ) from None
