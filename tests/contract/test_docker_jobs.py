"""Edge jobs as containers of a real Docker daemon: found again, bounded, and with nothing of the machine in sight."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azurite import Azurite
from dockerd import Docker, docker_daemon
from job_places import TARGET, Place, make_place
from loopback import wait_until
from sshd import Vm, running_vm
from test_training_jobs import local

from insitu.adapters.azure.blobs import AzureBlobs
from insitu.adapters.docker.container import container_name, proxy_name
from insitu.adapters.docker.host import DockerHost
from insitu.adapters.docker.image import ensure_image
from insitu.adapters.docker.jobs import DockerJobs
from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Batch
from insitu.enclosure import endpoint
from insitu.errors import AccessRefused, BackendUnavailable, TrainingFailed
from insitu.ports import JobStatus
from insitu.settings import AzureStateStore, SiteSettings
from insitu.wiring import open_site

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    elsewhere = "--dns=198.51.100.53"  # where questions for names would go, and be counted
    with docker_daemon(tmp_path_factory.mktemp("docker"), elsewhere) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that is made for jobs, loaded once."""
    root = tmp_path_factory.mktemp("site")
    settings = settings_of(root, docker, images={"kind": "folder", "root": root / "images"})
    host = DockerHost(docker.address)
    made = ensure_image(host, settings, ["skops"])
    assert ensure_image(host, settings, ["skops"]) == made
    assert docker("images", "--format", "{{.Repository}}:{{.Tag}}") == made
    return made


def settings_of(root: Path, docker: Docker, training: dict[str, Any] | None = None, **changes: Any) -> SiteSettings:
    (root / "state").mkdir(exist_ok=True)
    values = {
        "name": "here",
        "data": {"kind": "folder", "root": root / "blobs"},
        "state": {"kind": "folder", "root": root / "state"},
        "models": {"kind": "mlflow", "uri": f"sqlite:///{root}/models.db"},
        "compute": {"kind": "process", "work": root / "var"},
        "training": {"kind": "docker", "host": docker.address, "network": "host", **(training or {})},
    }
    return SiteSettings.model_validate(values | changes)


@dataclass(frozen=True)
class Here:
    """A site whose jobs are containers."""

    place: Place
    settings: SiteSettings
    jobs: DockerJobs

    def opened(self) -> DockerJobs:
        """Return the jobs as another process sees them."""
        jobs = open_site(Path(self.place.folder), self.settings).jobs
        assert isinstance(jobs, DockerJobs)
        return jobs

    def spec(self, what: str = "train", **changes: Any) -> dict[str, Any]:
        return self.place.spec(what, params={"slope": 2.0, "notes": "/tmp"}, model="tiny", **changes)

    def ended(self, job_id: str) -> JobStatus:
        wait_until(lambda: self.jobs.status(job_id).state != "running", 120, "the end of a job")
        return self.jobs.status(job_id)

    def trains(self, job_id: str) -> None:
        """Return when the job's command runs."""

        def trains() -> bool:
            status = self.jobs.status(job_id)
            assert status.state == "running", status
            return b"training on" in self.jobs.log(job_id, 0)

        wait_until(trains, 120, "training")


@pytest.fixture
def here(docker: Docker, image: str, tmp_path: Path) -> Callable[..., Here]:
    place = make_place(local, tmp_path)

    def make(**training: Any) -> Here:
        settings = settings_of(tmp_path, docker, {"image": image, **training})
        jobs = DockerJobs(settings, FolderBlobs(tmp_path / "state"), tmp_path / "jobs")
        return Here(place, settings, jobs)

    return make


@pytest.fixture(autouse=True)
def _clean(docker: Docker) -> Iterator[None]:
    yield
    for name in containers(docker):
        docker("rm", "--force", "--volumes", name)


def containers(docker: Docker) -> list[str]:
    return docker("ps", "--all", "--format", "{{.Names}}").split()


def test_the_image_of_jobs_knows_time_zones(docker: Docker, image: str) -> None:
    look = "import pyarrow as pa; print(pa.scalar(0, pa.timestamp('s', 'America/New_York')).as_py().hour)"
    assert docker("run", "--rm", "--network", "host", image, "python", "-c", look) == "19"


def test_a_job_leaves_its_model_and_its_container_is_removed(docker: Docker, here: Callable[..., Here]) -> None:
    site = here(memory_mb=2000)
    job_id = site.jobs.submit("key-of-done", site.spec())
    status = site.ended(job_id)
    assert status == JobStatus("completed"), site.jobs.log(job_id, 0).decode()
    site.jobs.cancel(job_id)
    assert containers(docker) == []
    assert docker("volume", "ls", "--quiet") == ""
    assert site.jobs.status(job_id) == JobStatus("completed")
    assert (site.jobs.output(job_id) / "output/model/MLmodel").is_file()
    assert json.loads((site.jobs.output(job_id) / "result.json").read_text())["network"] == "none"
    assert site.opened().submit("key-of-done", site.spec()) == job_id
    assert containers(docker) == []


def test_a_container_is_bounded_and_cancelling_ends_it(docker: Docker, here: Callable[..., Here]) -> None:
    site = here(memory_mb=2000)
    job_id = site.jobs.submit("key-of-hanging", site.spec("hang"))
    site.trains(job_id)
    (about,) = json.loads(docker("inspect", container_name(job_id)))
    host, config = about["HostConfig"], about["Config"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["Memory"] == host["MemorySwap"] == 2_000_000_000
    assert "no-new-privileges" in host["SecurityOpt"]
    assert config["Labels"]["io.insitu.run_key"] == "key-of-hanging"
    assert docker("logs", container_name(job_id)).splitlines() == [
        f"insitu edge job {phase}" for phase in ("begins", "fetches", "trains")
    ]
    site.jobs.cancel(job_id)
    assert containers(docker) == []
    assert site.jobs.status(job_id).state == "canceled"
    again = site.jobs.submit("key-of-hanging", site.spec("fail"))
    assert again != job_id
    assert site.ended(again).state == "failed"
    site.jobs.cancel(again)


SUBMITTER = """
import json, os, signal, sys
from pathlib import Path
from insitu.settings import SiteSettings
from insitu.wiring import open_site

settings = SiteSettings.model_validate_json(sys.argv[1], strict=False)
open_site(Path(sys.argv[2]), settings).jobs.submit("k", json.loads(sys.argv[3]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("crash", ["", "submit:named", "docker:created", "submit:started"])
def test_whoever_starts_again_attaches_to_the_same_container(
    docker: Docker, here: Callable[..., Here], crash: str
) -> None:
    site = here()
    environ = os.environ | {"INSITU_CRASH_AT": crash}
    arguments = [site.settings.model_dump_json(), str(site.place.folder), json.dumps(site.spec("hang"))]
    done = subprocess.run([sys.executable, "-c", SUBMITTER, *arguments], env=environ, check=False, timeout=120)
    assert done.returncode != 0
    before = containers(docker)
    job_id = site.jobs.submit("k", site.spec("hang"))
    assert containers(docker) == [container_name(job_id)]
    assert before in ([], [container_name("k")])
    site.trains(job_id)
    assert site.opened().submit("k", site.spec("hang")) == job_id
    site.jobs.cancel(job_id)
    assert containers(docker) == []


def test_a_job_that_needs_more_memory_than_it_may_is_told_so(here: Callable[..., Here]) -> None:
    site = here(memory_mb=300)
    hungry = "from insitu.edge.data import open_batch; open_batch(); x = b'x' * 2_000_000_000"
    job_id = site.jobs.submit("key-of-hungry", site.spec(command=["python", "-c", hungry]))
    status = site.ended(job_id)
    site.jobs.cancel(job_id)
    assert status.state == "failed"
    assert status.error is not None
    assert "more memory than it may" in status.error.what
    assert status.error.wanted == "at most 300 MB"


def test_a_container_that_is_killed_is_a_job_that_failed(docker: Docker, here: Callable[..., Here]) -> None:
    site = here()
    job_id = site.jobs.submit("key-of-killed", site.spec("hang"))
    site.trains(job_id)
    docker("kill", container_name(job_id))
    status = site.ended(job_id)
    site.jobs.cancel(job_id)
    assert status.error is not None
    assert "was killed on the Docker host" in status.error.what


def test_what_the_host_lacks_is_named(docker: Docker, here: Callable[..., Here], tmp_path: Path) -> None:
    secrets = {"ca_bundle": str(tmp_path / "no-such.pem")}
    for training, words in (
        ({"image": "no-such:image"}, "no image no-such:image"),
        ({"secrets": secrets}, "no-such.pem"),
        ({"network": "no-such-network", "isolated": False}, "no network no-such-network"),
    ):
        site = here(**training)
        with pytest.raises(TrainingFailed) as caught:
            site.jobs.submit("k", site.spec())
        assert words in str(caught.value)
        assert caught.value.next_action
    assert containers(docker) == []


def test_a_daemon_that_is_not_there_is_worth_a_retry(here: Callable[..., Here], tmp_path: Path) -> None:
    site = here(host=f"unix://{tmp_path}/no.sock")
    with pytest.raises(BackendUnavailable, match="does not answer"):
        site.jobs.submit("k", site.spec())
    (check,) = site.jobs.checks()
    assert not check.ok
    assert check.next_action


def test_the_checks_see_what_a_job_needs(here: Callable[..., Here]) -> None:
    assert [check.ok for check in here(memory_mb=1000).jobs.checks()] == [True, True, True]
    wrong = here(memory_mb=10**9, image="no-such:image").jobs.checks()
    assert [check.name for check in wrong if not check.ok] == ["docker memory", "docker image"]


TRY_TO_LEAVE = """
import runpy, socket, subprocess, sys, urllib.request
from contextlib import suppress

for address in ("http://198.51.100.7/", "https://elsewhere.example/Ada-Lovelace-1815"):
    with suppress(OSError):
        urllib.request.urlopen(address, timeout=5)
child = "import socket; socket.create_connection(('198.51.100.7', 443), 5)"
assert "unreachable" in subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stderr
with suppress(OSError):
    socket.socket(type=socket.SOCK_DGRAM).sendto(b"Ada-Lovelace-1815", ("198.51.100.7", 53))
with suppress(OSError):
    socket.getaddrinfo("ada-lovelace-1815.elsewhere.example", 443)
runpy.run_path("train.py", run_name="__main__")
"""

# Of the machine that runs the containers: what its user of jobs sends, and whatever goes to addresses that are
# reserved for documentation, to which the script and the resolver of its container turn.
COUNTED = """
table inet insitu_test_{port} {{
    counter listed {{}}
    counter unlisted {{}}
    chain sent {{
        type filter hook output priority 0;
        ip daddr 198.51.100.0/24 counter name unlisted return
        meta skuid 10001 oifname "lo" tcp dport {port} counter name listed
        meta skuid 10001 oifname != "lo" counter name unlisted
    }}
    chain forwarded {{
        type filter hook prerouting priority 0;
        ip daddr 198.51.100.0/24 counter name unlisted
    }}
}}
"""


@pytest.fixture
def packets(emulator: Azurite) -> Iterator[Callable[[], dict[str, int]]]:
    """Count what jobs send, to the blob service and to anybody else; one packet of ours shows that it is counted."""
    if not shutil.which("nft"):
        pytest.skip("nftables is not installed: tests/system-parts.sh does that")
    table = f"insitu_test_{emulator.port}"
    subprocess.run(["nft", "-f", "-"], input=COUNTED.format(port=emulator.port), text=True, check=True)

    def sent() -> dict[str, int]:
        with socket.socket(type=socket.SOCK_DGRAM) as one_packet:
            one_packet.sendto(b"counted", ("198.51.100.7", 9))
        told = subprocess.run(["nft", "-j", "list", "counters"], capture_output=True, text=True, check=True).stdout
        counters = [one["counter"] for one in json.loads(told)["nftables"] if "counter" in one]
        return {one["name"]: one["packets"] for one in counters if one["table"] == table}

    yield sent
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)


def test_a_job_reaches_its_stores_through_a_proxy_and_sends_no_packet_elsewhere_and_its_secrets_are_files_of_the_host(
    docker: Docker,
    image: str,
    emulator: Azurite,
    packets: Callable[[], dict[str, int]],
    new_container: Callable[[], str],
    tmp_path: Path,
) -> None:
    place = make_place(local, tmp_path)
    state, secret = new_container(), tmp_path / "state.secret"
    secret.write_text(emulator.key)
    os.chown(secret, 10001, 10001)
    secret.chmod(0o400)
    for folder in (*tmp_path.parents, tmp_path):  # as /etc/insitu is for the daemon
        folder.chmod(folder.stat().st_mode | 0o011)
    (tmp_path / "here.key").write_text(emulator.key)
    service = {"account_url": emulator.url, "key": {"file": tmp_path / "here.key"}}
    training = {"image": image, "secrets": {"data": str(secret), "state": str(secret)}}
    stores = {"data": service, "state": service | {"container": state}}
    settings = settings_of(
        tmp_path, docker, training, **{name: {"kind": "azure-blob", **one} for name, one in stores.items()}
    )
    assert isinstance(settings.state, AzureStateStore)
    jobs = DockerJobs(settings, AzureBlobs(settings.state, state), tmp_path / "jobs")
    site = Here(place, settings, jobs)
    data = in_service(site, new_container())
    job_id = jobs.submit("k", site.spec(command=["python", "-c", TRY_TO_LEAVE, "train"], **data))
    assert site.ended(job_id) == JobStatus("completed"), jobs.log(job_id, 0).decode()
    sent = packets()
    assert sent["unlisted"] == 1  # ours
    assert sent["listed"] > 50
    (about, proxy) = json.loads(docker("inspect", container_name(job_id), proxy_name(job_id)))
    assert about["Config"]["User"] == "10001:10001"
    assert about["HostConfig"]["NetworkMode"] == "none"
    assert emulator.key not in json.dumps([about, proxy])
    assert [mount["RW"] for mount in about["Mounts"] if mount["Destination"] == str(secret)] == [False]
    shared = {mount["Name"] for mount in about["Mounts"] if mount["Type"] == "volume"}
    assert [m["Destination"] for m in proxy["Mounts"] if m["Name"] in shared] == ["/opt/insitu/door"]
    assert [m["Destination"] for m in proxy["Mounts"] if m["Name"] not in shared] == ["/opt/insitu/job"]
    assert proxy["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
    assert proxy["HostConfig"]["Memory"]
    jobs.cancel(job_id)
    assert containers(docker) == []
    assert docker("volume", "ls", "--quiet") == ""
    again = jobs.submit("other", site.spec("hang", **data))
    site.trains(again)
    docker("kill", proxy_name(again))
    error = site.ended(again).error
    assert error is not None
    assert error.what == f"the proxy of the edge job {again} ended before the job: that reached its stores no more"
    jobs.cancel(again)
    assert containers(docker) == []
    result = json.loads((jobs.output(job_id) / "result.json").read_text())
    assert result["network"] == "proxy"
    assert result["destinations"]["refused"] == {"198.51.100.7:80": 1, "elsewhere.example:443": 1}
    assert list(result["destinations"]["allowed"]) == [endpoint(emulator.url)]


def in_service(site: Here, container: str) -> dict[str, Any]:
    """Put the data of *site* into a blob service; return the parts of a spec that name it there."""
    opened = open_site(Path(site.place.folder), site.settings)
    there, here = opened.data(container), site.place.store
    for blob in list(here.list()):
        there.create(blob.name, (here.root / blob.name).read_bytes())
    blobs, shared = list(there.list()), {"store": opened.data_spec(container), "target": TARGET}
    parts = {"train": blobs[:-1], "holdout": blobs[-1:]}
    return {name: Batch.of(container, part).to_json() | shared for name, part in parts.items()}


@pytest.fixture
def vm(docker: Docker, tmp_path: Path) -> Iterator[Vm]:
    """A machine whose Docker is only to be reached over SSH."""
    with running_vm(tmp_path / "vm") as found:
        found.program("docker", f'exec {shutil.which("docker")} -H {docker.address} "$@"')
        yield found


def test_a_docker_host_is_reached_over_ssh_with_the_users_own_keys(
    vm: Vm, docker: Docker, here: Callable[..., Here], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = vm.ssh
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    own = tmp_path / "user" / ".ssh"
    own.mkdir(parents=True)
    (own / "config").write_text(f"Host 127.0.0.1\n  IdentityFile {ssh.key}\n")
    address = f"ssh://{ssh.user}@{ssh.host}:{ssh.port}"
    with pytest.raises(AccessRefused, match="cannot be signed in to"):
        DockerHost(address).container("any")
    (own / "known_hosts").write_text(f"[{ssh.host}]:{ssh.port} {ssh.host_key}\n")
    site = here(host=address)
    job_id = site.jobs.submit("key-over-ssh", site.spec("hang"))
    assert containers(docker) == [container_name(job_id)]
    site.trains(job_id)
    vm.server.stop()
    with pytest.raises(BackendUnavailable, match="does not answer"):
        site.opened().docker.look(job_id)
    vm.restart()
    assert site.opened().docker.look(job_id) == JobStatus("running")
    site.jobs.cancel(job_id)
    assert containers(docker) == []
