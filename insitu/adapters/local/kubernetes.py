"""A model on a Kubernetes cluster: a manifest in a file, which is applied where the settings name a kubeconfig.

New pods come beside the old ones, which go when the new ones are ready: a version that does not come up takes nothing
from the one that serves. The manifest of that one lies beside the file, `FILE.before`, until the rollout has ended.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from insitu.errors import BackendUnavailable, DeployFailed
from insitu.files import replace_file
from insitu.images.manifest import PORT
from insitu.ports import Release
from insitu.settings import KubernetesTarget as Settings

_DIGEST, _MODEL, _VERSION = "insitu.io/digest", "insitu.io/model", "insitu.io/version"
_UID = 10001
_MANAGER = "insitu"
_ANSWER_S, _LOOK_S = 60, 2
_SILENCES = ("connection refused", " was refused - did you", "no such host", "i/o timeout", "TLS handshake", ": EOF")
"""What kubectl says when the cluster gives no answer."""


@dataclass(frozen=True)
class KubernetesTarget:
    """`Target`: Deployment and Service of a cluster.

    Args:
        model: Whose image it runs.
        settings: What model.toml says of it.
        repository: Where the cluster pulls from: `HOST:PORT/NAME`.
    """

    model: str
    settings: Settings
    repository: str

    @property
    def address(self) -> str:
        """Where pods of the cluster find the Service; without a kubeconfig, where the manifest is."""
        if self.settings.kubeconfig is None:
            return str(self.settings.file)
        return f"http://{self._called}.{self.settings.namespace}.svc:{PORT}"

    @property
    def _called(self) -> str:
        return f"{self.model}-{self.settings.name}".replace("_", "-").strip("-")[:63]

    def serves(self) -> str | None:
        """Return the digest that the manifest names; with a kubeconfig, that all pods of the Deployment run."""
        if self.settings.kubeconfig is None:
            return _digest_in(self.settings.file)
        status = (
            "{.metadata.annotations.insitu\\.io/digest} {.metadata.generation} {.status.observedGeneration} "
            "{.spec.replicas} {.status.updatedReplicas} {.status.availableReplicas}"
        )
        said = self._kubectl("get", "deployment", self._called, "--ignore-not-found", "-o", f"jsonpath={status}")
        digest, *numbers = said.split(" ") if said.strip() else [""]
        settled = len(numbers) == 5 and numbers[0] == numbers[1] and len(set(numbers[2:])) == 1
        return digest if digest and settled else None

    def put(self, release: Release) -> None:
        """Write the manifest; with a kubeconfig apply it, and wait until the new pods are ready."""
        if self.settings.kubeconfig is None:
            replace_file(self.settings.file, self.manifest(release).encode())
            return
        self._keep_before()
        replace_file(self.settings.file, self.manifest(release).encode())
        try:
            self._apply()
            wait = f"--timeout={self.settings.ready_timeout_s}s"
            self._kubectl("rollout", "status", f"deployment/{self._called}", wait, wait_s=self.settings.ready_timeout_s)
        except DeployFailed:
            if self._before.is_file():
                replace_file(self.settings.file, self._before.read_bytes())
                self._apply()
                self._before.unlink()
            raise
        self._before.unlink(missing_ok=True)

    @property
    def _before(self) -> Path:
        return self.settings.file.with_name(f"{self.settings.file.name}.before")

    def _keep_before(self) -> None:
        """Keep the manifest of what came up last; after a rollout that was interrupted it is kept already."""
        file = self.settings.file
        if file.is_file() and (not self._before.is_file() or self.serves() == _digest_in(file)):
            replace_file(self._before, file.read_bytes())

    def manifest(self, release: Release) -> str:
        """Return the manifest of the image as YAML: the same image, the same text."""
        labels = {"app.kubernetes.io/name": self._called, "app.kubernetes.io/managed-by": _MANAGER}
        told = {_DIGEST: release.digest, _MODEL: release.model, _VERSION: release.version}
        meta = {"name": self._called, "namespace": self.settings.namespace, "labels": labels, "annotations": told}
        selector = {"app.kubernetes.io/name": self._called}
        template = {"metadata": {"labels": labels, "annotations": told}, "spec": self._pod(release)}
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "replicas": self.settings.replicas,
                "revisionHistoryLimit": 3,
                "progressDeadlineSeconds": self.settings.ready_timeout_s,
                "strategy": rolling,
                "selector": {"matchLabels": selector},
                "template": template,
            },
        }
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {key: meta[key] for key in ("name", "namespace", "labels")},
            "spec": {"selector": selector, "ports": [{"name": "http", "port": PORT, "targetPort": "http"}]},
        }
        return yaml.dump_all([deployment, service], sort_keys=False, Dumper=_Plain)

    def _pod(self, release: Release) -> dict[str, Any]:
        memory = f"{self.settings.memory_mb}M"
        container = {
            "name": "model",
            "image": f"{self.repository}@{release.digest}",
            "ports": [{"name": "http", "containerPort": PORT}],
            "startupProbe": {
                "httpGet": {"path": "/ready", "port": "http"},
                "periodSeconds": _LOOK_S,
                "failureThreshold": ceil(self.settings.ready_timeout_s / _LOOK_S),
            },
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
            "livenessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10},
            "resources": {
                "requests": {"cpu": f"{self.settings.cpu_m}m", "memory": memory},
                "limits": {"memory": memory},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - the one folder that may be written
        }
        secret = self.settings.pull_secret
        return {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _UID,
                "runAsGroup": _UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **({"imagePullSecrets": [{"name": secret}]} if secret else {}),
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
        }

    def _apply(self) -> None:
        file = str(self.settings.file)
        self._kubectl(
            "apply", "--server-side", "--force-conflicts", f"--field-manager={_MANAGER}", "--validate=false", "-f", file
        )  # the server validates

    def _kubectl(self, *arguments: str, wait_s: float = 0) -> str:
        """Return what kubectl prints; its complaint goes into the error: it speaks of objects, never of rows."""
        context = ["--context", self.settings.context] if self.settings.context else []
        command = ["kubectl", f"--kubeconfig={self.settings.kubeconfig}", *context]
        command += [f"--namespace={self.settings.namespace}", *arguments]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=wait_s + _ANSWER_S,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise DeployFailed(
                "kubectl is not installed, and model.toml names a kubeconfig",
                next_action="install it, or leave kubeconfig out: the manifest is written, and others apply it",
            ) from None
        except subprocess.TimeoutExpired:
            raise BackendUnavailable("the Kubernetes cluster gives no answer", wanted=f"one in {_ANSWER_S} s") from None
        if done.returncode == 0:
            return done.stdout
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:300]
        if any(word in done.stderr for word in _SILENCES):
            raise BackendUnavailable("the Kubernetes cluster gives no answer", found=last)
        raise DeployFailed(
            f"the Kubernetes cluster does not take {self._called}",
            found=last,
            next_action=f"kubectl describe deployment/{self._called}: what ran before runs on",
        )


class _Plain(yaml.SafeDumper):
    """Writes each value where it stands: YAML's references are hard to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _digest_in(file: Path) -> str | None:
    """Return the digest that a manifest of ours names; None when there is none."""
    try:
        first = next(iter(yaml.safe_load_all(file.read_text())), None) or {}
        return str(first["metadata"]["annotations"][_DIGEST])
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
