"""The forms that single values of settings have; each validator's message is what is wanted."""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo


def _form(pattern: str, wanted: str) -> AfterValidator:
    """Return a validator for text of one form; *wanted* says that form to people."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.DOTALL):
            raise ValueError(wanted)
        return text

    return AfterValidator(check)


def _under_project(path: Path, info: ValidationInfo) -> Path:
    """Resolve against the project that is being loaded; leave the path alone when none is."""
    if not path.parts:
        raise ValueError("a path, not empty")
    return info.context["project"] / path.expanduser() if info.context else path


def _file_under_project(uri: str, info: ValidationInfo) -> str:
    scheme, slashes, file = uri.partition("sqlite:///")
    return f"{scheme}{slashes}{info.context['project'] / file}" if slashes and info.context else uri


def _layout_under_project(image: str, info: ValidationInfo) -> str:
    if not image.startswith("oci:") or not info.context:
        return image
    return f"oci:{info.context['project'] / Path(image.removeprefix('oci:')).expanduser()}"


def _emulated_or_encrypted(url: str) -> str:
    """Refuse what only an emulator has: no TLS, and the account as a path."""
    if not re.match(r"https?://(127\.|localhost\b|\[::1\])", url) and not re.fullmatch("https://[^/]+", url):
        raise ValueError("https://ACCOUNT.blob.REGION.FQDN; without TLS, or with a path, only an emulator's is")
    return url


def _spoken_version(version: str) -> str:
    if version < OLDEST_SERVICE_VERSION:
        raise ValueError(f"{OLDEST_SERVICE_VERSION} or newer: Microsoft's library speaks nothing older")
    return version


def _parameter(value: Any) -> int | float | str | bool:
    infinite = isinstance(value, float) and not isfinite(value)  # JSON has no such numbers
    if infinite or not isinstance(value, int | float | str):  # bool is an int
        raise ValueError("text, a number, true or false")
    return value


OLDEST_SERVICE_VERSION = "2019-02-02"
_ONE_LINE = "text, not empty and with no space around it"
_HOST = r"(?!\d+(:|$))[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\]"
_HOST_OF_IMAGES = rf"localhost|(?=[^/]*[.:])({_HOST})(:[1-9]\d*)?"
_PORT = r"[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]"

Text = Annotated[str, _form(r"\S(.*\S)?", _ONE_LINE)]
Name = Annotated[str, _form("[a-z0-9][a-z0-9_-]*", "a file or folder name of a-z, 0-9, - and _")]
TargetName = Annotated[
    str,
    _form(
        "(?!.*-(before|trial)$)[a-z0-9][a-z0-9_-]*",
        "a name of a-z, 0-9, - and _ that does not end in -before or -trial",
    ),
]
Container = Annotated[str, _form("(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*", "3 to 63 of a-z, 0-9 and single -")]
Delimiter = Annotated[str, _form("[\t !#-~]", "one ASCII character, such as ; or a tab")]
BlobPattern = Annotated[str, _form(r"[^/\s](.*\S)?", "a pattern relative to the container, such as *.parquet")]
FileName = Annotated[str, _form(r"[^./\s][^/\s]*", "the name of a blob, without folders")]
SuiteName = Annotated[str, _form(r"[\w-]+", "the name of a suite, without folder and without .json")]
PartitionKey = Annotated[str, _form(r"\w+", 'the key of a partition such as month=1, without "="')]
RegistryHost = Annotated[
    str, _form(f"({_HOST})(:({_PORT}))?", "host or host:port, such as localhost:5000: no scheme, no path")
]
AccountUrl = Annotated[
    str,
    _form(
        rf"https?://({_HOST})(:({_PORT}))?(/[a-z0-9]+)?",
        "https://ACCOUNT.blob.REGION.FQDN, without a container and without a signature",
    ),
    AfterValidator(_emulated_or_encrypted),
]
AccountName = Annotated[str, _form("[a-z0-9]{3,24}", "3 to 24 of a-z and 0-9")]
ServiceVersion = Annotated[
    str,
    _form(r"20\d\d-\d\d-\d\d", 'a version of the service, such as "2019-07-07"'),
    AfterValidator(_spoken_version),
]
VariableName = Annotated[
    str, _form(r"(?!INSITU_)[A-Za-z_][A-Za-z0-9_]*", "the name of a variable; those with INSITU_ are settings")
]
Guid = Annotated[
    str, _form(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "an id such as 0000…-…: 8-4-4-4-12 hex digits")
]
HostName = Annotated[str, _form(f"({_HOST})", "a host name or address, without scheme and without port")]
HttpsUrl = Annotated[
    str, _form(rf"https://({_HOST})(:({_PORT}))?(/[\w./-]*[\w-])?", "https://HOST, without a slash at its end")
]
ProxyUrl = Annotated[str, _form(rf"https?://({_HOST}):({_PORT})", "http://HOST:PORT, without a name and a password")]
ResourceName = Annotated[str, _form(r"[A-Za-z0-9_]([\w.()-]{0,88}[\w()-])?", "the name of an Azure resource")]
HostKey = Annotated[
    str,
    _form(
        r"(ssh-ed25519|ecdsa-sha2-nistp(256|384|521)|ssh-rsa) [A-Za-z0-9+/]{40,}={0,2}",
        'a line of the server\'s public key: "ssh-ed25519 AAAA…", as /etc/ssh/ssh_host_ed25519_key.pub holds it',
    ),
]
DockerAddress = Annotated[
    str,
    _form(
        rf"unix:///\S+|ssh://[a-z_][a-z0-9_-]*@({_HOST})(:({_PORT}))?",
        "unix:///PATH of a socket, or ssh://USER@HOST",
    ),
]
BaseImage = Annotated[
    str,
    _form(
        rf"(oci:[^@]+|({_HOST_OF_IMAGES})/[a-z0-9]+([._/-]+[a-z0-9]+)*(:\w[\w.-]*)?)(@sha256:[0-9a-f]{{64}})?",
        "HOST/NAME@sha256:… of a registry, or oci:FOLDER@sha256:…",
    ),
    AfterValidator(_layout_under_project),
]
ListenAddress = Annotated[
    str,
    _form(r"\d{1,3}(\.\d{1,3}){3}|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:]*\]?", "an IP address, such as 127.0.0.1 or 0.0.0.0"),
]
EndpointName = Annotated[
    str, _form("[a-z][a-z0-9-]{1,30}[a-z0-9]", "3 to 32 of a-z, 0-9 and -, beginning with a letter, not ending with -")
]
InstanceType = Annotated[str, _form(r"Standard_\w+", "a size of machines, such as Standard_DS3_v2")]
KubernetesName = Annotated[str, _form("[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "up to 63 of a-z, 0-9 and -")]
EdgePath = Annotated[str, _form(r"/\S(.*\S)?", "an absolute path on the machine where jobs run")]
ApiVersion = Annotated[str, _form(r"20\d\d-\d\d-\d\d(-preview)?", 'a version of an API, such as "2020-06-01"')]
DeploymentName = Annotated[str, _form(r"[\w. -]+/[\w. {}-]+", "FLOW/NAME of a deployment, such as retrain/{model}")]
SparkAddress = Annotated[
    str,
    _form(
        rf"local\[(\*|[1-9]\d*)\]|spark://({_HOST}):({_PORT})(,({_HOST}):({_PORT}))*|sc://({_HOST}):({_PORT})(/;use_ssl=true)?",
        "spark://HOST:PORT of a master, sc://HOST:PORT of a Spark Connect server, or local[CORES]",
    ),
]
MlflowUri = Annotated[
    str,
    _form(r"sqlite:///[^/].*|sqlite:////.+", "the address of a database in a file: sqlite:///FILE.db"),
    AfterValidator(_file_under_project),
]
ProjectPath = Annotated[Path, Field(strict=False), AfterValidator(_under_project)]
Parameter = Annotated[int | float | str | bool, PlainValidator(_parameter)]
