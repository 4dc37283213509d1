"""What a new VM does at its first start: Docker, the host key that was agreed on, the site's proxy and authorities.

No secret of the site's data is in it: who may read the VM's definition could read that, too.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from insitu.errors import SettingsError
from insitu.settings import AzureBlobStore, DockerTraining, SiteSettings, VmCompute
from insitu.settings.azure import AzureMlTraining

_DAEMON = {"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}
_BUNDLE_BYTES = 32_000
"""What an authority's file may take of the 64 KB that a VM is handed."""


def cloud_config(settings: SiteSettings, compute: VmCompute) -> str:
    """Return the cloud-config document.

    Raises:
        SettingsError: The host key is not the private half of `ssh.host_key`, or a file cannot be read.
    """
    files = [_file("/etc/docker/daemon.json", json.dumps(_DAEMON))]
    config: dict[str, Any] = {"package_update": True, "packages": ["docker.io"], "runcmd": _commands(compute.ssh.user)}
    if proxy := _proxy(settings):
        config["apt"] = {"http_proxy": proxy, "https_proxy": proxy}
        files.append(_file("/etc/systemd/system/docker.service.d/proxy.conf", _proxy_unit(settings, proxy)))
    if bundle := _authority(settings):
        config["ca_certs"] = {"trusted": [bundle]}
        if target := _bundle_on_the_vm(settings):
            files.append(_file(target, bundle))
    if compute.host_key_file:
        config |= {"ssh_deletekeys": True, "ssh_keys": _host_key(compute.host_key_file, compute.ssh.host_key)}
    return "#cloud-config\n" + yaml.safe_dump(config | {"write_files": files}, sort_keys=True)


def _commands(user: str) -> list[list[str]]:
    return [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "docker"],
        ["systemctl", "restart", "docker"],
        ["usermod", "--append", "--groups", "docker", user],
        ["install", "--directory", f"--owner={user}", "--mode=0711", "/etc/insitu"],
    ]


def _file(path: str, content: str) -> dict[str, str]:
    return {"path": path, "content": content, "permissions": "0644"}


def _proxy(settings: SiteSettings) -> str | None:
    """Return the site's proxy, unless it is one of this machine alone."""
    proxy = settings.network.proxy
    host = urlsplit(proxy).hostname if proxy else None
    try:
        return None if host is None or ipaddress.ip_address(host).is_loopback else proxy
    except ValueError:
        return None if host == "localhost" else proxy


def _proxy_unit(settings: SiteSettings, proxy: str) -> str:
    direct = ",".join(settings.network.no_proxy)
    return f'[Service]\nEnvironment="HTTPS_PROXY={proxy}" "HTTP_PROXY={proxy}" "NO_PROXY={direct}"\n'


def _authority(settings: SiteSettings) -> str | None:
    """Return the authorities of the hub, for the VM to trust."""
    stores = (settings.data, settings.state)
    named = [store.ca_bundle for store in stores if isinstance(store, AzureBlobStore) and store.ca_bundle]
    if not named:
        return None
    text = _text(named[0])
    if len(text) > _BUNDLE_BYTES:
        raise SettingsError(
            f"{named[0]} is too large to be handed to a VM",
            found=f"{len(text):,} bytes",
            wanted=f"the hub's own authorities alone, at most {_BUNDLE_BYTES:,} bytes",
        )
    return text


def _bundle_on_the_vm(settings: SiteSettings) -> str | None:
    training = settings.training
    return training.secrets.ca_bundle if isinstance(training, AzureMlTraining | DockerTraining) else None


def _host_key(file: Path, pinned: str) -> dict[str, str]:
    """Return the key pair as cloud-init names it."""
    text = _text(file)
    try:
        private = serialization.load_ssh_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SettingsError(
            f"{file} is no private host key",
            wanted="a file that `ssh-keygen -t ed25519 -N '' -f FILE` makes",
        ) from None
    shape = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public = private.public_key().public_bytes(*shape).decode()
    if public != pinned:
        raise SettingsError(
            f"{file} is not the private half of compute.ssh.host_key",
            next_action=f"pin the first two words of {file}.pub in the site's settings",
        )
    kind = {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(public.split()[0], "ecdsa")
    return {f"{kind}_private": text, f"{kind}_public": public}


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(
            f"{file}, which the site's settings name, cannot be read", found=type(exc).__name__
        ) from None
