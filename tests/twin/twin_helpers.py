"""Asking the twin as programs do: through its proxy, trusting its authority."""

from __future__ import annotations

from typing import Any

import requests
from azure.identity import ClientSecretCredential

from insitu.twin.estate import Estate

MANAGEMENT = "https://management.azure.com/.default"


def ask(estate: Estate, method: str, url: str, *, timeout: float = 30, **options: Any) -> requests.Response:
    """Return the answer to one request over a connection of its own."""
    proxies = {"https": estate.proxy, "http": estate.proxy}
    with requests.Session() as session:
        session.trust_env = False
        return session.request(
            method, url, proxies=proxies, verify=str(estate.authority.bundle), timeout=timeout, **options
        )


def hub_token(estate: Estate) -> str:
    """Return a token for the hub's resource manager, from the real SDK."""
    return hub_credential(estate).get_token(f"{estate.hub_audience}/.default").token


def hub_credential(estate: Estate) -> ClientSecretCredential:
    secret = estate.hub_client_secret.read_text()
    if estate.hub_identity == "adfs":
        place = {"authority": f"https://{estate.names.adfs}", "disable_instance_discovery": True}
        return ClientSecretCredential("adfs", estate.names.hub_client, secret, **place)
    return ClientSecretCredential(estate.names.tenant, estate.names.hub_client, secret)


def ask_hub(estate: Estate, method: str, path: str, version: str = "2020-06-01", **options: Any) -> requests.Response:
    """Ask the hub's resource manager; *path* is below the resource group's providers, or begins with /subscriptions."""
    options.setdefault("headers", {"Authorization": f"Bearer {hub_token(estate)}"})
    names = estate.names
    place = path if path.startswith("/") else f"{names.hub_group_id}/providers/{path}"
    return ask(estate, method, f"https://{names.hub_arm}{place}?api-version={version}", **options)


def code_of(answer: requests.Response) -> str:
    """Return the code of an error as resource managers word it."""
    code: str = answer.json()["error"]["code"]
    return code
