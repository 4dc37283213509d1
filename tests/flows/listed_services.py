"""Runs a command of insitu beside the two services that a site lists: a blob service and a registry, on loopback.

    python listed_services.py PROJECT COMMAND...

The months of the project go into the blob service, and its site file says so. The kernel counts what goes to the two,
and what goes anywhere else but to this machine itself, where one packet of ours is the last; its word is the last line.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from azurite import Azurite, azurite
from docker_registry import docker_registry

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.settings import AzureBlobStore

COUNTERS = """
table inet counted {{
    counter blobs {{}}
    counter registry {{}}
    counter unlisted {{}}
    chain output {{
        type filter hook output priority 0;
        oifname "lo" tcp dport {blobs} counter name blobs
        oifname "lo" tcp dport {registry} counter name registry
        oifname != "lo" counter name unlisted
    }}
}}
"""


def main(project: Path, command: Sequence[str]) -> int:
    with (
        TemporaryDirectory() as folder,
        azurite(Path(folder, "blobs"), in_memory=True) as emulator,
        docker_registry(Path(folder, "registry")) as registry,
    ):
        _fill(project, emulator)
        rules = COUNTERS.format(blobs=emulator.port, registry=registry.rpartition(":")[2])
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        known = {"BLOB_KEY": emulator.key, "INSITU_SITE__REGISTRY": registry}
        code = subprocess.run(command, env=os.environ | known, check=False).returncode
        with socket.socket(type=socket.SOCK_DGRAM) as one_packet:  # of ours, so that 0 is no broken counter
            one_packet.sendto(b"counted", ("198.51.100.7", 9))
        listed = subprocess.run(["nft", "-j", "list", "counters"], capture_output=True, text=True, check=True)
    counters = [entry["counter"] for entry in json.loads(listed.stdout)["nftables"] if "counter" in entry]
    print(json.dumps({one["name"]: one["packets"] for one in counters}))
    return code


def _fill(project: Path, emulator: Azurite) -> None:
    """Move the project's months into the blob service."""
    emulator.create_container("flights")
    os.environ["BLOB_KEY"] = emulator.key
    store = {"kind": "azure-blob", "account_url": emulator.url, "key": {"env": "BLOB_KEY"}}
    blobs = AzureBlobs(AzureBlobStore.model_validate(store), "flights")
    folder, site = project / "var/blobs/flights", project / "deployments/sites/local.toml"
    for path in sorted(folder.rglob("*.parquet")):
        blobs.create(path.relative_to(folder).as_posix(), path.read_bytes())
        path.unlink()
    there = f'[data]\nkind = "azure-blob"\naccount_url = "{emulator.url}"\nkey = {{ env = "BLOB_KEY" }}\n'
    text = site.read_text()
    here = '[data]\nkind = "folder"\nroot = "var/blobs"\n'
    assert here in text
    site.write_text(text.replace(here, there))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
