"""`insitu doctor` looks at everything at once, names what is missing, and ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from past_runs import past_run

from insitu.adapters.local.blobs import FolderBlobs
from insitu.batch import Blob
from insitu.doctor import _state_check, diagnose
from insitu.errors import AccessRefused, SettingsError, StateDamaged
from insitu.ports import Check
from insitu.readiness import settled, side_by_side
from insitu.settings import SiteSettings
from insitu.surroundings import clock_check, versions_check
from insitu.twin.estate import Estate
from insitu.twin.faults import Fault

REPO = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the example model and the site of this machine, and no data."""
    for part in ("models", "data_checks"):
        shutil.copytree(REPO / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "deployments" / "sites").mkdir(parents=True)
    shutil.copy(REPO / "deployments" / "sites" / "local.toml", tmp_path / "deployments" / "sites")
    return tmp_path


def run_doctor(project: Path, *arguments: str, **environ: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "insitu", "doctor", "--project", str(project), *arguments]
    if not (REPO / "insitu" / "__main__.py").exists():
        command[1:3] = ["-c", "from insitu.cli import main; main()"]
    done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def findings(project: Path, site: str, environ: Mapping[str, str] | None = None) -> dict[str, Check]:
    return {check.name: check for check in diagnose(project, site, environ or {})}


def test_a_fresh_project_is_well_without_data_and_without_a_network(project: Path) -> None:
    code, text = run_doctor(project, "--json", HTTPS_PROXY="http://127.0.0.1:9")
    told = json.loads(text)
    assert (code, told["ok"], told["site"]) == (0, True, "local")
    names = {check["name"] for check in told["checks"]}
    assert {"settings", "model flights", "memory", "disk", "state", "data flights", "model registry"} <= names
    assert set(told["checks"][0]) == {"name", "ok", "found", "wanted", "next_action"}


def test_what_is_missing_ends_with_code_1_and_says_what_to_do(project: Path) -> None:
    code, text = run_doctor(project, INSITU_SITE__REGISTRY="127.0.0.1:9")
    assert code == 1
    failed = text[text.index("FAIL") :]
    assert "image registry" in failed.splitlines()[0]
    assert "wanted" in failed
    assert "next" in failed
    assert "1 of" in text.splitlines()[-1]


def test_settings_that_are_wrong_end_with_code_2(project: Path) -> None:
    code, text = run_doctor(project, INSITU_SITE__COMPUTE__KIND="qantum")
    assert (code, "E-CONF" in text) == (2, True)


def test_a_model_whose_settings_are_wrong_is_one_finding_among_others(project: Path) -> None:
    (project / "models" / "broken").mkdir()
    (project / "models" / "broken" / "model.toml").write_text("target = 3\n")
    found = findings(project, "local")
    assert [name for name, check in found.items() if not check.ok] == ["model broken"]
    assert "models/broken/model.toml" in found["model broken"].found


def test_a_target_that_wants_more_of_the_site_is_found_as_a_run_would_find_it(project: Path) -> None:
    model = project / "models" / "flights" / "model.toml"
    target = '\n[[deploy]]\nname = "cluster"\nkind = "kubernetes"\nfile = "cluster.yaml"\n'
    model.write_text(model.read_text() + target)
    check = findings(project, "local")["model flights"]
    assert (check.ok, "E-CONF" in check.found, "registry in deployments/sites/local.toml" in check.found) == (
        False, True, True,
    )  # fmt: skip


def test_a_registry_that_lacks_what_was_published_is_found_and_only_for_the_model_that_is_asked_about(
    project: Path,
) -> None:
    past_run(project, 1)
    (project / "models" / "other").mkdir()
    flights = (project / "models" / "flights" / "model.toml").read_text()
    (project / "models" / "other" / "model.toml").write_text(flights.replace('name = "flights"', 'name = "other"'))
    check = findings(project, "local")["model registry"]
    assert (check.ok, "backup" in check.next_action) == (False, True)
    assert check.found == "answers, but lacks what was published: v1 of flights"
    of_other = {check.name: check.ok for check in diagnose(project, "local", {}, "other")}
    assert (of_other["model registry"], "model flights" in of_other) == (True, False)
    with pytest.raises(SettingsError, match="nobody"):
        diagnose(project, "local", {}, "nobody")


def test_a_package_of_another_version_is_named() -> None:
    check = versions_check(["pytest>=999", "click>=8", "surely-not-there", 'other; sys_platform == "beos"'])
    assert not check.ok
    assert "pytest" in check.found
    assert "surely-not-there is not installed" in check.found
    assert "click" not in check.found
    assert check.wanted.startswith("the 3 packages")


@dataclass(frozen=True)
class Ahead(FolderBlobs):
    """A store whose clock is ten minutes ahead."""

    def stat(self, name: str) -> Blob:
        blob = super().stat(name)
        return replace(blob, last_modified=blob.last_modified + timedelta(minutes=10))


def test_clocks_that_are_apart_are_found(tmp_path: Path) -> None:
    FolderBlobs(tmp_path).create("now", b"")
    assert clock_check(FolderBlobs(tmp_path), "now").ok
    check = clock_check(Ahead(tmp_path), "now")
    assert (check.ok, check.found) == (False, "this machine and the state's store are 600 s apart")


def test_an_address_of_notify_that_is_not_there_is_found(project: Path) -> None:
    found = findings(project, "local", {"INSITU_SITE__NOTIFY__SLACK__ENV": "NOT_SET_ANYWHERE"})
    assert (found["notify"].ok, "NOT_SET_ANYWHERE" in found["notify"].found) == (False, True)


def test_a_need_that_no_machine_has_is_found_before_any_run(project: Path) -> None:
    found = findings(project, "local", {"INSITU_MODEL__NEEDS__CORES": "64000"})
    assert (found["cores"].ok, found["cores"].wanted) == (False, "64000")


def test_a_bundle_of_authorities_that_is_none_is_found(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "")  # to be set back afterwards
    (project / "ca.pem").write_text("no certificate")
    check = findings(project, "local", {"INSITU_SITE__NETWORK__CA_BUNDLE": "ca.pem"})["ca bundle"]
    assert (check.ok, str(project / "ca.pem") in check.found) == (False, True)


def test_a_daemon_that_images_shall_be_tried_in_is_looked_for(project: Path) -> None:
    environ = {
        "INSITU_SITE__IMAGES__SMOKE": "docker",
        "INSITU_SITE__IMAGES__DOCKER_HOST": "unix:///var/run/nobody.sock",
    }
    check = findings(project, "local", environ)["docker smoke test"]
    assert (check.ok, "docker_host of [images]" in check.next_action) == (False, True)


@dataclass(frozen=True)
class Careless(FolderBlobs):
    """A store that writes whatever the condition."""

    def replace(self, name: str, data: bytes, *, etag: str) -> Blob:
        return super().replace(name, data, etag=self.stat(name).etag)


def test_a_state_that_ignores_conditions_is_refused(tmp_path: Path) -> None:
    assert _state_check(FolderBlobs(tmp_path)).ok
    assert _state_check(FolderBlobs(tmp_path)).ok  # also when it was there before
    with pytest.raises(StateDamaged, match="condition"):
        _state_check(Careless(tmp_path))


@pytest.fixture
def twin_project(project: Path, estate: Estate, twin_site: Callable[..., SiteSettings]) -> Path:
    twin_site()  # writes the site's file
    return project


def test_a_site_on_a_hub_is_looked_at_from_every_side(twin_project: Path, estate: Estate) -> None:
    found = findings(twin_project, "twin")
    assert {name: check.found for name, check in found.items() if not check.ok} == {}
    assert {
        "settings", "hub identity", "hub", "vm", "cores", "memory", "disk", "docker", "clock", "ssh", "ssh credential",
        "state", "data flights", "data flights from the vm", "state from the vm", "azure identity", "workspace",
        "compute target", "environment", "registry login", "registry push", "experiments", "model registry",
        "disk here",
    } <= set(found)  # fmt: skip
    assert list(estate.journal.lines("unknown")) == []


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("vm-deallocated", {"vm", "ssh"}),
        ("docker-down", {"docker"}),
        ("secret-expired", {"hub identity", "azure identity", "registry login", "workspace", "experiments"}),
    ],
)
def test_a_condition_of_the_estate_is_named(
    twin_project: Path, estate: Estate, condition: str, names: set[str]
) -> None:
    from insitu.adapters.azure.identity import azure_identity, hub_identity
    from insitu.settings import load_site

    site = load_site(twin_project, "twin", {})
    assert site.azure
    assert site.hub
    for identity in (azure_identity(site.azure), hub_identity(site.hub)):
        identity.forget()
    estate.set_condition(condition)
    failed = {name for name, check in findings(twin_project, "twin").items() if not check.ok}
    assert failed <= names
    assert failed & names


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (Fault("status:403", "management.azure.com", "/computes/", times=0), "compute target"),
        (Fault("status:404", "management.azure.com", "/environments/", times=0), "environment"),
        (Fault("status:403", "*.api.azureml.ms", times=0), "experiments"),
        (Fault("status:403", "*.azurecr.io", "/blobs/uploads/", times=0), "registry push"),
        (Fault("status:403", "*.blob.north.hub.example", "/insitu-state", "PUT", times=0), "state"),
        (Fault("status:403", "*.blob.north.hub.example", "/flights", "GET", times=0), "data flights"),
    ],
)
def test_a_right_that_is_missing_is_named(twin_project: Path, estate: Estate, fault: Fault, name: str) -> None:
    estate.faults.add(fault)
    found = findings(twin_project, "twin")
    assert not found[name].ok
    assert found[name].next_action


def test_a_workspace_that_does_not_answer_is_named_once(twin_project: Path, estate: Estate) -> None:
    estate.faults.add(Fault("garbage", "management.azure.com", times=0))
    assert [name for name, check in findings(twin_project, "twin").items() if not check.ok] == ["workspace"]


def test_no_secret_is_in_what_the_doctor_says(twin_project: Path, estate: Estate) -> None:
    estate.set_condition("ssh-down")
    text = repr(findings(twin_project, "twin"))
    for file in (estate.folder / "secrets").iterdir():
        assert file.read_text().strip() not in text


def refuse() -> list[Check]:
    raise AccessRefused("nobody signs in", found="401", wanted="a token", next_action="mend it")


def break_down() -> list[Check]:
    raise RuntimeError("planted value")


def test_probes_answer_in_order_and_one_that_fails_spoils_no_other() -> None:
    good = Check("good", True, "x", "x")
    checks = side_by_side({"a": refuse, "b": lambda: [good, good], "c": break_down}, limit_s=30)
    assert [(check.name, check.ok) for check in checks] == [("a", False), ("good", True), ("good", True), ("c", False)]
    assert (checks[0].found, checks[0].wanted, checks[0].next_action) == ("nobody signs in: 401", "a token", "mend it")
    assert "planted value" not in repr(checks)


def test_a_probe_that_hangs_is_left_behind() -> None:
    from threading import Event

    never = Event()

    def hang() -> list[Check]:
        never.wait()
        return []

    checks = side_by_side({"slow": hang, "quick": lambda: [Check("quick", True, "", "")]}, limit_s=0.1)
    never.set()
    assert [(check.name, check.ok) for check in checks] == [("slow", False), ("quick", True)]


@pytest.mark.parametrize(
    ("looks", "ready", "asked"),
    [("+", True, 1), ("-++", True, 3), ("-+-", False, 3), ("--", False, 2), ("-+-+", False, 3)],
)
def test_what_comes_and_goes_is_ready_after_two_good_looks(looks: str, ready: bool, asked: int) -> None:
    seen: list[str] = []

    def look() -> list[Check]:
        seen.append(looks[len(seen)])
        return [Check("x", seen[-1] == "+", "", "")]

    assert all(check.ok for check in settled(look, pause_s=0)) is ready
    assert len(seen) == asked


def test_an_error_of_the_settings_is_raised_and_not_found(project: Path) -> None:
    with pytest.raises(SettingsError):
        diagnose(project, "nowhere", {})


def test_what_grows_old_fails_the_doctor_and_no_run(
    twin_project: Path, estate: Estate, twin_site: Callable[..., SiteSettings], tmp_path: Path
) -> None:
    from insitu.doctor import service_probes
    from insitu.wiring import open_site

    (tmp_path / "old.pem").write_text("no certificate any more")
    identity = f'{{ tenant = "t", client_id = "{estate.names.client}", certificate = "{tmp_path}/old.pem" }}'
    environ = {"INSITU_SITE__AZURE__IDENTITY": identity}
    assert not findings(twin_project, "twin", environ)["azure certificate"].ok
    site = open_site(twin_project, twin_site(AZURE__IDENTITY=identity))
    asked = [check.name for probe in service_probes(site, "flights").values() for check in probe()]
    assert "azure identity" in asked
    assert "azure certificate" not in asked
