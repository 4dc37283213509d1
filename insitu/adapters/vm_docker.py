"""Docker on a VM that was there before: installed over SSH where it is missing. A new VM installs it by itself."""

from __future__ import annotations

from dataclasses import dataclass

from insitu.adapters.ssh import open_session
from insitu.errors import InsituError, NotReady
from insitu.provisioning import Finding
from insitu.settings import SshSettings

_INSTALL_S = 1200.0
_LOOK = "command -v docker"
_INSTALL = (
    "sudo -n apt-get -o DPkg::Lock::Timeout=600 -q update"
    " && sudo -n DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -q -y install docker.io"
    ' && sudo -n usermod --append --groups docker "$(id -un)"'
)


@dataclass(frozen=True)
class VmDockerPart:
    """Docker on the training VM."""

    vm: str
    ssh: SshSettings

    @property
    def name(self) -> str:
        """`Docker on VM`."""
        return f"Docker on {self.vm}"

    @property
    def place(self) -> str:
        """Where the VM is reached."""
        return f"{self.ssh.host}:{self.ssh.port}"

    def look(self) -> Finding:
        """Return whether it is installed; of a VM that cannot be asked, e.g. since it is stopped, nothing is known."""
        try:
            with open_session(self.ssh, tries=1) as session:
                there = session.run(_LOOK, timeout_s=self.ssh.timeout_s).code == 0
        except InsituError as error:
            return Finding(f"not told: {error.what}")
        return Finding("installed") if there else Finding("not installed", "install it: apt-get, by sudo")

    def make(self) -> None:
        """Install it from the VM's own package sources."""
        with open_session(self.ssh) as session:
            outcome = session.run(_INSTALL, timeout_s=_INSTALL_S)
        if outcome.code:
            raise NotReady(
                f"Docker could not be installed on {self.vm}",
                found=f"exit code {outcome.code}",
                wanted=f"a Debian or Ubuntu where {self.ssh.user} may use sudo without a password",
                next_action=f"install Docker there, and let {self.ssh.user} into the group docker",
            )
