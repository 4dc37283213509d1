"""Where a published model is deployed: the `[[deploy]]` tables of model.toml, each of one kind."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from insitu.settings.forms import (
    DockerAddress,
    EndpointName,
    InstanceType,
    KubernetesName,
    ListenAddress,
    Name,
    ProjectPath,
    TargetName,
    Text,
)
from insitu.settings.strict import Strict


class Target(Strict):
    """One place that runs the model's image."""

    has_own_name: ClassVar[bool] = True

    name: TargetName = Field(description="what people call it; each once")
    when: Literal["promoted", "approved"] = Field(
        default="promoted", description="each version that becomes champion, or only one that a person has let pass"
    )
    sites: list[Name] = Field(default=[], description="which sites deploy there; none: all")


class DockerTarget(Target):
    """A container of a Docker host on site."""

    kind: Literal["docker"] = Field(description="a container of a Docker host on site")
    host: DockerAddress = Field(default="unix:///var/run/docker.sock", description="the Docker host")
    port: int = Field(default=5001, ge=1, le=65535, description="port of the host that answers")
    address: ListenAddress = Field(default="127.0.0.1", description="address of the host that the port is opened on")
    network: Text = Field(default="bridge", description='Docker network of the container; "host": that of the host')
    memory_mb: int = Field(default=1024, ge=64, description="MB of memory that the server may use")
    ready_timeout_s: int = Field(default=120, ge=1, description="seconds that a server may take to load its model")


class EndpointTarget(Target):
    """A managed online endpoint of Azure Machine Learning."""

    kind: Literal["azure-ml-endpoint"] = Field(description="a managed online endpoint of the site's workspace")
    endpoint: EndpointName = Field(description="name of the endpoint, unique in its region; it is made at need")
    instance_type: InstanceType = Field(default="Standard_DS3_v2", description="size of its machines")
    instances: int = Field(default=1, ge=1, le=50, description="how many machines")
    ready_timeout_s: int = Field(default=1800, ge=60, description="seconds that a new deployment may take")


class KubernetesTarget(Target):
    """A Deployment and a Service of a Kubernetes cluster."""

    kind: Literal["kubernetes"] = Field(description="a manifest; applied where a kubeconfig is named")
    file: ProjectPath = Field(description="the manifest that is written")
    namespace: KubernetesName = Field(default="default", description="the namespace")
    replicas: int = Field(default=1, ge=1, description="how many pods")
    memory_mb: int = Field(default=1024, ge=64, description="MB of memory that a pod may use")
    cpu_m: int = Field(default=250, ge=1, description="thousandths of a core that a pod is given at least")
    pull_secret: KubernetesName | None = Field(default=None, description="the Secret that the registry asks for")
    kubeconfig: ProjectPath | None = Field(
        default=None, description="applied with kubectl and this file; none: somebody else applies the manifest"
    )
    context: Text | None = Field(default=None, description="context of the kubeconfig; none: its current one")
    ready_timeout_s: int = Field(default=300, ge=1, description="seconds that the pods may take")


class BundleTarget(Target):
    """A folder that another machine fetches bundles from."""

    kind: Literal["bundle"] = Field(description="a folder of bundles, for machines without a way to the registry")
    folder: ProjectPath = Field(description="the folder; latest.json in it names the bundle to take")


DeployTarget = Annotated[DockerTarget | EndpointTarget | KubernetesTarget | BundleTarget, Field(discriminator="kind")]
