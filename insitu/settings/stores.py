"""Where blobs are: a folder, or an account of Azure Blob Storage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from insitu.settings.forms import AccountName, AccountUrl, Container, ProjectPath, ServiceVersion
from insitu.settings.strict import SecretSource, Strict


class FolderStore(Strict):
    """Blobs in a folder of this machine."""

    kind: Literal["folder"] = Field(description="blobs are files of a folder")
    root: ProjectPath = Field(description="the folder; a relative path starts at the project")


class AzureBlobStore(Strict):
    """Blobs of one account of Azure Blob Storage: on Azure Stack Hub, in Azure, or an emulator's."""

    kind: Literal["azure-blob"] = Field(description="blobs are those of an Azure storage account")
    account_url: AccountUrl = Field(description="https://ACCOUNT.blob.REGION.FQDN")
    account: AccountName | None = Field(default=None, description="the account's name, where the address does not say")
    key: SecretSource | None = Field(default=None, description="where the account key is")
    sas: SecretSource | None = Field(default=None, description="where a shared access signature is")
    api_version: ServiceVersion = Field(default="2019-07-07", description="the service version to speak")
    ca_bundle: ProjectPath | None = Field(default=None, description="PEM file of the authorities to trust")

    @model_validator(mode="after")
    def _has_one_secret(self) -> AzureBlobStore:
        if (self.key is None) == (self.sas is None):
            raise ValueError("either key or sas, to say where the secret is")
        return self

    @property
    def account_name(self) -> str:
        """The account's name: of an emulator's address the path, else the first word of the host."""
        _, _, host, *path = self.account_url.split("/")
        return self.account or (path[0] if path else host.split(".")[0].split(":")[0])


class AzureStateStore(AzureBlobStore):
    """Blobs of one container of an account."""

    container: Container = Field(default="insitu-state", description="the container; it must exist")
