"""What a site on Azure Stack Hub can set: the hub, the public side, the training VM and how jobs get there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from insitu.settings.forms import (
    ApiVersion,
    DockerAddress,
    EdgePath,
    Guid,
    HostKey,
    HostName,
    HttpsUrl,
    ProjectPath,
    ResourceName,
    Text,
)
from insitu.settings.strict import SecretSource, Strict


class Principal(Strict):
    """The service principal that insitu signs in as."""

    tenant: Text = Field(description='the directory: its id or domain; "adfs" on a hub with AD FS')
    client_id: Guid = Field(description="the application (client) id")
    secret: SecretSource | None = Field(default=None, description="where the client secret is")
    certificate: ProjectPath | None = Field(default=None, description="PEM file of certificate and private key")
    authority: HttpsUrl | None = Field(
        default=None, description="where it signs in; none: what the hub or the cloud says of itself"
    )

    @model_validator(mode="after")
    def _has_one_credential(self) -> Principal:
        if (self.secret is None) == (self.certificate is None):
            raise ValueError("either secret or certificate, to say where the credential is")
        return self


class HubSettings(Strict):
    """The Azure Stack Hub of this site."""

    region: Text = Field(description="the hub's region")
    fqdn: HostName = Field(description="the hub's external domain")
    arm_endpoint: HttpsUrl | None = Field(default=None, description="none: https://management.REGION.FQDN")
    subscription: Guid = Field(description="the subscription on the hub")
    resource_group: ResourceName = Field(description="the resource group of VM and storage on the hub")
    identity: Principal = Field(description="who insitu is on the hub")
    compute_api_version: ApiVersion = Field(
        default="2020-06-01", description='version of the compute API; "2017-12-01" on hubs before 2102'
    )
    network_api_version: ApiVersion = Field(
        default="2018-11-01", description='version of the network API; "2017-10-01" on hubs before 2102'
    )

    @property
    def arm(self) -> str:
        """The address of the hub's resource manager."""
        return self.arm_endpoint or f"https://management.{self.region}.{self.fqdn}"


class AzureSettings(Strict):
    """The public side: the workspace that records jobs and models."""

    cloud: Literal["AzureCloud", "AzureChinaCloud", "AzureUSGovernment"] = Field(
        default="AzureCloud", description="which public cloud"
    )
    subscription: Guid = Field(description="the public subscription")
    resource_group: ResourceName = Field(description="the resource group of the workspace")
    workspace: ResourceName = Field(description="the Azure Machine Learning workspace")
    location: Text = Field(default="westeurope", description="where `insitu provision` creates workspace and registry")
    identity: Principal = Field(description="who insitu is in the public cloud")


class SshSettings(Strict):
    """How insitu reaches the VM; its host key is pinned and never learned."""

    host: HostName = Field(description="address of the VM")
    port: int = Field(default=22, ge=1, le=65535, description="port of its SSH server")
    user: Text = Field(description="the user on the VM")
    host_key: HostKey = Field(description="the server's public key")
    key: ProjectPath | None = Field(default=None, description="file of the private key; preferred")
    passphrase: SecretSource | None = Field(default=None, description="where the passphrase of the key is")
    password: SecretSource | None = Field(default=None, description="where a password is, instead of a key")
    timeout_s: int = Field(default=10, ge=1, description="seconds to wait for the server and for one question")
    max_key_age_days: int = Field(
        default=365, ge=1, description="days after which the private key is reported as stale"
    )

    @model_validator(mode="after")
    def _has_one_credential(self) -> SshSettings:
        if (self.key is None) == (self.password is None):
            raise ValueError("either key or password, to say where the credential is")
        return self


class VmCompute(Strict):
    """Training on a VM of the hub."""

    kind: Literal["stack-hub-vm"] = Field(description="training runs on a VM of Azure Stack Hub")
    vm: ResourceName = Field(description="the name of the VM in the hub's resource group")
    size: Text = Field(default="Standard_DS3_v2", description="size of the VM that `insitu provision` creates")
    image: Text = Field(
        default="Canonical:UbuntuServer:22.04-LTS:latest",
        description="publisher:offer:sku:version of the image that `insitu provision` uses",
    )
    disk_gb: int = Field(default=128, ge=30, description="GB of the disk of a VM that `insitu provision` creates")
    subnet: Text | None = Field(
        default=None,
        description="NETWORK/SUBNET of the resource group, or a resource id, for that VM; none: a network of its own",
    )
    ssh_from: list[Text] = Field(
        default=["VirtualNetwork"], description="addresses (CIDR) or service tags from where that VM takes SSH"
    )
    host_key_file: ProjectPath | None = Field(
        default=None, description="private host key for that VM; ssh.host_key is its public half"
    )
    start: bool = Field(default=False, description="start the VM when it is stopped")
    start_timeout_s: int = Field(default=600, ge=1, description="seconds to wait for a VM that starts")
    gpu: bool = Field(default=False, description="the job needs a GPU, which nvidia-smi must show")
    ssh: SshSettings = Field(description="how insitu reaches the VM")
    work: ProjectPath = Field(
        default="var",
        validate_default=True,
        description="folder of this machine for reports/, jobs/ and scoring/: private, stays on site",
    )
    reserve_memory_mb: int = Field(default=256, ge=0, description="MB of the VM's memory that a job must leave free")
    reserve_disk_mb: int = Field(default=1024, ge=0, description="MB of the VM's disk that a job must leave free")
    max_skew_s: int = Field(default=60, ge=1, description="seconds that the VM's clock may be off")


class EdgeSecrets(Strict):
    """Where a job finds the secrets of the stores, on the machine that it runs on: never in its definition."""

    data: EdgePath = Field(
        default="/etc/insitu/data.secret", description="file with the key or signature of the site's data"
    )
    state: EdgePath = Field(
        default="/etc/insitu/state.secret", description="file with the key or signature of the site's state"
    )
    ca_bundle: EdgePath | None = Field(default=None, description="PEM file of the authorities that the job trusts")


class ProcessTraining(Strict):
    """Edge jobs as processes of the machine that runs the flow."""

    kind: Literal["process"] = Field(description="edge jobs are processes of this machine")
    network: Literal["none", "shared"] = Field(
        default="none",
        description="none: jobs reach their own loopback, and the blob service of their data, where the kernel allows"
        " that; shared: what this machine reaches",
    )


class AzureMlTraining(Strict):
    """Edge jobs as jobs of Azure Machine Learning, on compute at the site."""

    kind: Literal["attached-vm", "kubernetes"] = Field(description="Azure ML jobs on the VM, or on an Arc cluster")
    target: ResourceName = Field(description="name of the compute target in the workspace")
    environment: Text = Field(default="insitu-train", description="NAME, or NAME:VERSION, of the environment")
    namespace: Text | None = Field(default=None, description="for kubernetes: the namespace of the jobs")
    instance_type: Text | None = Field(default=None, description="for kubernetes: the instance type of the jobs")
    cluster_id: Text | None = Field(
        default=None,
        description="for kubernetes: resource id of the connected cluster that `insitu provision` attaches",
    )
    secrets: EdgeSecrets = Field(default=EdgeSecrets(), description="where a job finds its secrets")
    network: Literal["none", "shared"] = Field(
        default="none",
        description="none: the training command reaches its data alone, where the kernel of the job's machine allows"
        " that; shared: what that machine reaches",
    )
    queue_timeout_s: int = Field(default=3600, ge=1, description="seconds that a job may wait for the compute")
    prepare_timeout_s: int = Field(default=1800, ge=1, description="seconds that preparing a job may take")

    @field_validator("namespace", "instance_type", "cluster_id")
    @classmethod
    def _is_for_kubernetes(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("kind") == "attached-vm":
            raise ValueError('nothing: it is for kind = "kubernetes" only')
        return value


class DockerTraining(Strict):
    """Edge jobs as containers of a Docker host on site; no connection comes in from outside."""

    kind: Literal["docker"] = Field(description="edge jobs are containers of a Docker host on site")
    host: DockerAddress = Field(default="unix:///var/run/docker.sock", description="the Docker host")
    image: Text | None = Field(default=None, description="image of the jobs; none: built here from the lock file")
    secrets: EdgeSecrets = Field(default=EdgeSecrets(), description="where the Docker host has the job's secrets")
    memory_mb: int | None = Field(default=None, ge=64, description="MB of memory that a job may use; none: all")
    gpu: bool = Field(default=False, description="hand the GPUs of the host to the job")
    network: Text = Field(default="bridge", description="Docker network on which the stores are reached")
    isolated: bool = Field(
        default=True,
        description="jobs have no network but a proxy that leads to the stores; false: they are on network themselves",
    )


class AzureMlModels(Strict):
    """A model registry in Azure Machine Learning."""

    kind: Literal["azure-ml"] = Field(description="model versions are registered in the workspace of [azure]")
    archive_rejected: bool = Field(
        default=False, description="register rejected challengers, too, as archived versions"
    )
