"""The settings of the site that the twin plays: what a production site's file says, and the way into the estate."""

from __future__ import annotations

import json
import os
from pathlib import Path

from insitu.files import replace_file
from insitu.twin.appservice import app_host
from insitu.twin.estate import Estate
from insitu.twin.tls import write_private

_SITE = """\
# The site {site}: written by `insitu twin up`, and written again by the next. Every host below is played by the twin,
# which [network] leads to; without that table this is the file of a production site.
description = "rehearsal on the twin: Azure and an Azure Stack Hub on this machine"
registry = {registry}
registry_login = "azure"

[network]
proxy = {proxy}
ca_bundle = {ca_bundle}

[hub]
region = {region}
fqdn = {fqdn}
subscription = {hub_subscription}
resource_group = {hub_group}
identity = {{ tenant = {hub_tenant}, client_id = {hub_client}, secret = {{ file = {hub_secret} }} }}

[azure]
subscription = {subscription}
resource_group = {group}
workspace = {workspace}
location = {location}
identity = {{ tenant = {tenant}, client_id = {client}, secret = {{ file = {secret} }} }}

[data]
kind = "azure-blob"
account_url = {account_url}
key = {{ file = {account_key} }}

[state]
kind = "azure-blob"
account_url = {account_url}
key = {{ file = {account_key} }}
container = {state_container}

[models]
kind = "azure-ml"

[compute]
kind = "stack-hub-vm"
vm = {vm}
start = true
work = {work}

[compute.ssh]
host = "127.0.0.1"
port = {ssh_port}
user = {ssh_user}
host_key = {host_key}
key = {ssh_key}

[training]
{training}
[training.secrets]
data = {edge_data}
state = {edge_state}
ca_bundle = {edge_ca}

[images]
kind = "folder"
root = {images}

[relay]
app_host = {relay_host}
key = {{ file = {relay_key} }}
"""
_CONTAINER_USER = 10001
"""Whom jobs run as in a container, unless the owner of the secret is somebody else but root."""
_TRAINING = {
    "attached-vm": 'kind = "attached-vm"\ntarget = {target}\n',
    "kubernetes": 'kind = "kubernetes"\ntarget = {cluster}\nnamespace = "insitu"\ncluster_id = {cluster_id}\n',
    # The daemon is this machine's, and its jobs find the estate where this machine does.
    "docker": 'kind = "docker"\nnetwork = "host"\n',
}


def write_site_file(estate: Estate, project: Path, site: str = "twin") -> Path:
    """Write `deployments/sites/SITE.toml` of *project* for an estate that runs, and the secrets that a job finds.

    Return the file.
    """
    path = project / "deployments" / "sites" / f"{site}.toml"
    replace_file(path, site_text(estate, project, site).encode())
    return path


def site_text(estate: Estate, project: Path, site: str = "twin") -> str:
    """Return the settings as TOML; paths inside *project* are relative to it."""
    names, ssh = estate.names, estate.machine.ssh
    key = estate.account_key(names.hub_account)
    texts = {
        **{name: getattr(names, name) for name in _NAMES},
        "site": site,
        "registry": names.registry_host,
        "proxy": estate.proxy,
        "hub_tenant": estate.hub_tenant,
        "account_url": f"https://{names.hub_blob}",
        "ssh_user": ssh.user,
        "host_key": ssh.host_key,
        "cluster_id": names.cluster_id,
        "relay_host": app_host(estate),
    }
    files = {
        "ca_bundle": estate.authority.bundle,
        "secret": estate.client_secret,
        "hub_secret": estate.hub_client_secret,
        "account_key": key,
        "ssh_key": ssh.key,
        "relay_key": estate.secret("relay.key"),
        "work": estate.folder / "work",
        "images": estate.folder / "images",
    }
    edge = {"edge_data": _edge_secret(estate, "data"), "edge_state": _edge_secret(estate, "state")}
    edge["edge_ca"] = estate.authority.bundle
    quoted = {name: json.dumps(text) for name, text in texts.items() if name != "site"}
    quoted |= {name: json.dumps(_in_project(path, project)) for name, path in files.items()}
    quoted |= {name: json.dumps(str(path)) for name, path in edge.items()}
    training = _TRAINING[estate.backend].format(**quoted)
    return _SITE.format(**quoted, site=site, training=training, ssh_port=ssh.port)


_NAMES = (
    "region", "fqdn", "hub_subscription", "hub_group", "hub_client", "hub_account", "state_container", "vm", "tenant",
    "subscription", "group", "client", "workspace", "location", "target", "cluster",
)  # fmt: skip


def _edge_secret(estate: Estate, name: str) -> Path:
    """Put the account's key where a job on the VM looks for it; return the file."""
    file = estate.machine.folder / "etc" / f"{name}.secret"
    write_private(file, estate.account_key(estate.names.hub_account).read_bytes())
    if estate.backend == "docker" and os.geteuid() == 0:
        os.chown(file, _CONTAINER_USER, _CONTAINER_USER)
    return file


def _in_project(path: Path, project: Path) -> str:
    project = project.resolve()
    return str(path.relative_to(project) if path.is_relative_to(project) else path)
