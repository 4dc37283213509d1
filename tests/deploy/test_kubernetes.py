"""kubectl itself applies the manifest to an API server that takes what a real one does: a server-side apply."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from deploy_helpers import LayoutImages

from insitu.adapters.local.kubernetes import KubernetesTarget
from insitu.errors import BackendUnavailable, DeployFailed
from insitu.ports import Release
from insitu.settings import KubernetesTarget as Settings

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")

GROUPS: dict[str, Any] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {
        "kind": "APIGroupList",
        "groups": [
            {
                "name": "apps",
                "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
                "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
            }
        ],
    },
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [{"name": "services", "kind": "Service", "namespaced": True, "verbs": ["get", "patch"]}],
    },
    "/apis/apps/v1": {
        "kind": "APIResourceList",
        "groupVersion": "apps/v1",
        "resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": ["get", "patch"]}],
    },
}


class Cluster(ThreadingHTTPServer):
    """What lies in the cluster; pods of images whose digest is in *broken* do not come up; *away*: it hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.objects: dict[str, dict[str, Any]] = {}
        self.broken: set[str] = set()
        self.away = False


class _Api(BaseHTTPRequestHandler):
    server: Cluster

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found = GROUPS.get(path) or self.server.objects.get(path)
        if path.endswith("/deployments"):  # what `kubectl rollout status` lists, and then watches
            items = [one for name, one in self.server.objects.items() if name.startswith(f"{path}/")]
            listed = {"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {"resourceVersion": "1"}}
            found = listed | {"items": [] if "watch=true" in self.path else items}
        self._answer(200 if found else 404, found or {"kind": "Status", "status": "Failure", "reason": "NotFound"})

    def do_PATCH(self) -> None:
        path, _, query = self.path.partition("?")
        if self.server.away:
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/apply-patch+yaml"
        assert "fieldManager=insitu" in query
        document = yaml.safe_load(body)
        digest = document["metadata"].get("annotations", {}).get("insitu.io/digest")
        if document["kind"] == "Deployment":
            document["metadata"]["generation"] = 1
            up = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
            down = {
                "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}],
                "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1,
            }  # fmt: skip
            document["status"] = {"observedGeneration": 1, **(down if digest in self.server.broken else up)}
        self.server.objects[path] = document
        self._answer(200, document)

    def _answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def target(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KubernetesTarget:
    monkeypatch.setenv("HOME", str(tmp_path))  # kubectl caches there what a server can do
    place = {"cluster": {"server": f"http://127.0.0.1:{cluster.server_address[1]}"}, "name": "here"}
    context = {"context": {"cluster": "here", "user": "me"}, "name": "here"}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [place], "contexts": [context]}
    (tmp_path / "kubeconfig").write_text(yaml.dump({**config, "current-context": "here", "users": [{"name": "me"}]}))
    settings = Settings(
        name="line", kind="kubernetes", file=tmp_path / "line.yaml", kubeconfig=tmp_path / "kubeconfig",
        ready_timeout_s=5,
    )  # fmt: skip
    return KubernetesTarget("flights", settings, "registry:5000/flights")


def release(version: str, tmp_path: Path) -> Release:
    return Release("flights", version, f"sha256:{version * 64}", LayoutImages(tmp_path), lambda _: None)


def test_a_manifest_is_applied_and_what_does_not_come_up_gives_way_again(
    cluster: Cluster, target: KubernetesTarget, tmp_path: Path
) -> None:
    first, second = release("1", tmp_path), release("2", tmp_path)
    assert target.serves() is None
    target.put(first)
    assert target.serves() == first.digest
    service = cluster.objects["/api/v1/namespaces/default/services/flights-line"]
    assert service["spec"]["ports"][0]["port"] == 5001

    cluster.broken.add(second.digest)
    with pytest.raises(DeployFailed, match="does not take flights-line"):
        target.put(second)
    assert target.serves() == first.digest
    assert first.digest in target.settings.file.read_text()


def test_a_cluster_that_is_away_is_no_answer(target: KubernetesTarget, cluster: Cluster, tmp_path: Path) -> None:
    cluster.shutdown()
    cluster.server_close()
    with pytest.raises(BackendUnavailable):
        target.put(release("1", tmp_path))


def test_what_served_before_is_known_still_after_a_rollout_that_was_interrupted(
    cluster: Cluster, target: KubernetesTarget, tmp_path: Path
) -> None:
    first, second, third = (release(version, tmp_path) for version in "123")
    target.put(first)
    cluster.away = True
    with pytest.raises(BackendUnavailable):
        target.put(second)
    cluster.away = False
    assert second.digest in target.settings.file.read_text()
    cluster.broken.add(second.digest)
    with pytest.raises(DeployFailed):
        target.put(second)
    assert target.serves() == first.digest
    assert first.digest in target.settings.file.read_text()

    kept = target.settings.file.with_name("line.yaml.before")
    assert not kept.exists()
    kept.write_text(target.manifest(second))  # killed when the pods of the first had come up, before it was taken away
    cluster.broken.add(third.digest)
    with pytest.raises(DeployFailed):
        target.put(third)
    assert (target.serves(), kept.exists()) == (first.digest, False)


def test_a_pod_may_take_as_long_as_the_settings_say(target: KubernetesTarget, tmp_path: Path) -> None:
    patient = replace(target, settings=target.settings.model_copy(update={"ready_timeout_s": 601}))
    deployment = next(iter(yaml.safe_load_all(patient.manifest(release("1", tmp_path)))))
    probe = deployment["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    assert 601 <= probe["periodSeconds"] * probe["failureThreshold"] < 604
