"""The VM of a hub, asked of the twin by Microsoft's own SDK: what is found, what is wrong, and waking it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from insitu.adapters.azure import answers
from insitu.adapters.azure.compute import StackHubCompute
from insitu.adapters.azure.hub import Absent, Hub, Machine
from insitu.adapters.azure.identity import Identity, azure_identity, hub_endpoints
from insitu.errors import AccessRefused, BackendUnavailable, InsituError, SettingsError
from insitu.ports import Check, Need
from insitu.settings import AzureSettings, HubSettings, SiteSettings, VmCompute
from insitu.twin.estate import Estate
from insitu.twin.faults import Fault
from insitu.twin.server import running_estate

NEED = Need(cores=1, memory_bytes=1, disk_bytes=1)
Load = Callable[..., SiteSettings]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has clients of its own, which do not wait long."""
    from insitu.adapters.azure import hub, identity

    for option, value in {"read_timeout": 2, "retry_backoff_factor": 0.01}.items():
        monkeypatch.setitem(answers.OPTIONS, option, value)
    caches = (hub._hub, identity._hub_identity, identity._azure_identity)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def failed(site: SiteSettings, need: Need = NEED) -> dict[str, Check]:
    checks = StackHubCompute(site, pause_s=0.1).readiness(need)
    return {check.name: check for check in checks if not check.ok}


def hub_of(site: SiteSettings) -> Hub:
    assert site.hub
    return Hub(site.hub)


def caught(call: Callable[[], object]) -> InsituError:
    with pytest.raises(InsituError) as found:
        call()
    return found.value


def test_a_site_that_is_well_passes_and_is_asked_in_the_hub_s_own_words(estate: Estate, twin_site: Load) -> None:
    site = twin_site()
    assert failed(site, Need(4, 1_000_000, 1_000_000, (estate.names.data_container,))) == {}
    lines = [line for line in estate.journal.lines("hub") if "/Microsoft.Compute/" in line.path]
    assert {line.path.split("api-version=")[1].split("&")[0] for line in lines} == {"2020-06-01"}
    assert list(estate.journal.lines("unknown")) == []


def test_the_version_of_the_compute_api_is_the_site_s(estate: Estate, twin_site: Load) -> None:
    hub_of(twin_site(HUB__COMPUTE_API_VERSION="2017-12-01")).machine("trainer")
    assert any("api-version=2017-12-01" in line.path for line in estate.journal.lines("hub"))


@pytest.mark.parametrize(
    ("override", "name", "found"),
    [
        ({"COMPUTE__VM": "other"}, "vm", "ResourceNotFound"),
        ({"HUB__RESOURCE_GROUP": "other"}, "vm", "ResourceGroupNotFound"),
        ({"COMPUTE__GPU": "true"}, "gpu", "no nvidia-smi"),
    ],
)
def test_what_the_settings_name_and_is_not_there_is_told(
    twin_site: Load, override: dict[str, str], name: str, found: str
) -> None:
    assert found in failed(twin_site(**override))[name].found


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("vm-deallocated", {"vm", "ssh"}),
        ("vm-stopped", {"vm", "ssh"}),
        ("vm-provisioning-failed", {"vm"}),
        ("vm-agent-dead", {"vm agent"}),
        ("ssh-down", {"ssh"}),
        ("docker-down", {"docker"}),
        ("secret-expired", {"hub identity"}),
    ],
)
def test_each_condition_is_found_by_its_own_check(
    estate: Estate, twin_site: Load, condition: str, names: set[str]
) -> None:
    estate.set_condition(condition)
    found = failed(twin_site())
    assert set(found) == names
    assert all(check.next_action and check.wanted for check in found.values())


@pytest.mark.parametrize(
    ("name", "need"), [("cores", Need(100_000, 1, 1)), ("memory", Need(1, 10**18, 1)), ("disk", Need(1, 1, 10**18))]
)
def test_too_small_a_size_is_told_in_numbers(twin_site: Load, name: str, need: Need) -> None:
    found = failed(twin_site(), need)
    assert set(found) == {name}
    assert any(digit.isdigit() for digit in found[name].found)


def test_a_memory_that_no_vm_of_this_size_has_asks_for_another_size(twin_site: Load) -> None:
    check = failed(twin_site(), Need(1, 20_000_000_000, 1))["memory"]
    assert (check.found, check.next_action.split(",")[0]) == ("15,032 MB in all", "resize the VM")


def test_a_stopped_vm_is_started_where_the_site_allows_it(estate: Estate, twin_site: Load) -> None:
    estate.machine.switch("deallocated")
    StackHubCompute(twin_site(COMPUTE__START="false"), pause_s=0.1).wake()
    assert estate.machine.power == "deallocated"
    StackHubCompute(twin_site(), pause_s=0.1).wake()
    assert failed(twin_site()) == {}


def test_a_vm_that_runs_is_not_started(estate: Estate, twin_site: Load) -> None:
    StackHubCompute(twin_site(), pause_s=0.1).wake()
    assert not any(line.method == "POST" and line.path.endswith("/start") for line in estate.journal.lines("hub"))


def test_a_vm_that_does_not_start_is_given_up_when_its_time_is_up(estate: Estate, twin_site: Load) -> None:
    estate.machine.switch("stopped")
    estate.set_condition("vm-starting-fails")
    try:
        StackHubCompute(twin_site(COMPUTE__START_TIMEOUT_S="2"), pause_s=0.1).wake()
        assert "vm" in failed(twin_site())
    finally:
        estate.machine.switch("running")


@pytest.mark.parametrize("kind", ["status:503", "status:429:0", "drop", "silence"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_one_answer_that_is_lost_is_asked_for_again(estate: Estate, twin_site: Load, kind: str, when: Any) -> None:
    estate.faults.add(Fault(kind, estate.names.hub_arm, "/virtualMachines/", when=when))
    assert isinstance(hub_of(twin_site()).machine("trainer"), Machine)


@pytest.mark.parametrize("kind", ["status:500", "drop", "garbage", "truncate"])
def test_a_hub_in_trouble_is_no_answer(estate: Estate, twin_site: Load, kind: str) -> None:
    estate.faults.add(Fault(kind, estate.names.hub_arm, "/virtualMachines/", times=0))
    assert isinstance(caught(lambda: hub_of(twin_site()).machine("trainer")), BackendUnavailable)


@pytest.mark.parametrize("kind", ["status:403", "status:401"])
def test_a_hub_that_refuses_is_refused_access(estate: Estate, twin_site: Load, kind: str) -> None:
    estate.faults.add(Fault(kind, estate.names.hub_arm, "/virtualMachines/", times=0))
    assert isinstance(caught(lambda: hub_of(twin_site()).machine("trainer")), AccessRefused)


@pytest.mark.parametrize(
    ("kind", "found"),
    [("expired", "certificate has expired"), ("foreign", "certificate"), ("other-host", "Hostname mismatch")],
)
def test_a_certificate_that_is_not_right_is_told_with_what_is_wrong(
    estate: Estate, twin_site: Load, kind: str, found: str
) -> None:
    estate.faults.add(Fault(f"certificate:{kind}", estate.names.hub_arm, times=0))
    error = caught(lambda: hub_of(twin_site()).machine("trainer"))
    assert isinstance(error, AccessRefused)
    assert found in str(error.found)


def test_tokens_that_were_revoked_are_asked_for_anew_once(estate: Estate, twin_site: Load) -> None:
    hub = hub_of(twin_site())
    assert isinstance(hub.machine("trainer"), Machine)
    estate.set_condition("tokens-revoked")
    estate.clock_skew_s, before = 5, estate.clock_skew_s  # a token's time of issue has whole seconds
    try:
        assert isinstance(hub.machine("nobody"), Absent)
    finally:
        estate.clock_skew_s = before


def test_a_secret_that_was_exchanged_is_read_anew_after_a_refusal(
    estate: Estate, twin_site: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_SECRET", "planted-wrong-secret")
    site = twin_site(HUB__IDENTITY__SECRET='{ env = "HUB_SECRET" }')
    hub = hub_of(site)
    error = caught(lambda: hub.machine("trainer"))
    assert isinstance(error, AccessRefused)
    assert "AADSTS7000215" in str(error)
    assert "planted-wrong-secret" not in str(error) + repr(hub.identity)
    monkeypatch.setenv("HUB_SECRET", estate.hub_client_secret.read_text())
    assert isinstance(hub.machine("trainer"), Machine)


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ({"AZURE__IDENTITY__CLIENT_ID": "00000000-0000-4000-8000-000000000000"}, "AADSTS700016"),
        ({"AZURE__IDENTITY__TENANT": "00000000-0000-4000-8000-000000000000"}, ""),
    ],
)
def test_who_is_not_known_in_the_public_cloud_is_refused(twin_site: Load, override: dict[str, str], code: str) -> None:
    azure = twin_site(**override).azure
    assert azure
    check = azure_identity(azure).check("azure identity")
    assert not check.ok
    assert code in check.found


@pytest.mark.parametrize("kind", ["status:503", "drop", "garbage"])
def test_an_identity_provider_in_trouble_is_no_answer(estate: Estate, twin_site: Load, kind: str) -> None:
    estate.faults.add(Fault(kind, "login.microsoftonline.com", times=0))
    azure = twin_site().azure
    assert azure
    error = caught(lambda: azure_identity(azure).get_token("https://management.azure.com/.default"))
    assert isinstance(error, BackendUnavailable)


def certificate(folder: Path, days: int = 400) -> tuple[Path, Any]:
    """Return a PEM file of certificate and key, and the certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(65537, 2048)
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "insitu")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "identity.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
    return file, made


def with_certificate(settings: AzureSettings, file: Path) -> AzureSettings:
    principal = settings.identity.model_copy(update={"secret": None, "certificate": file})
    return settings.model_copy(update={"identity": principal})


def test_a_certificate_signs_in_where_it_is_registered_alone(estate: Estate, twin_site: Load, tmp_path: Path) -> None:
    file, made = certificate(tmp_path)
    azure = twin_site().azure
    assert azure
    identity = azure_identity(with_certificate(azure, file))
    assert "AADSTS700027" in identity.check("azure identity").found
    estate.directory.register(estate.names.tenant, estate.names.client).certificates.append(made)
    assert identity.check("azure identity").ok
    assert [check.ok for check in identity.age_checks("azure certificate")] == [True]


def test_a_certificate_that_ends_soon_is_told_before_it_does(twin_site: Load, tmp_path: Path) -> None:
    file, _ = certificate(tmp_path, days=7)
    azure = twin_site().azure
    assert azure
    (check,) = azure_identity(with_certificate(azure, file)).age_checks("azure certificate")
    assert (check.ok, check.found.startswith("ends 20")) == (False, True)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_that_is_no_certificate_is_told_without_what_it_holds(
    twin_site: Load, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "identity.pem"
    if content is not None:
        file.write_bytes(content)
    azure = twin_site().azure
    assert azure
    error = caught(lambda: azure_identity(with_certificate(azure, file)).get_token("x/.default"))
    assert isinstance(error, SettingsError)
    assert str(file) in str(error)


@pytest.fixture(scope="module")
def adfs_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Estate, HubSettings]]:
    """A hub that signs in by its own AD FS."""
    with running_estate(tmp_path_factory.mktemp("adfs"), in_memory=True, hub_identity="adfs") as estate:
        names = estate.names
        identity = {"tenant": "adfs", "client_id": names.hub_client, "secret": {"file": estate.hub_client_secret}}
        yield estate, HubSettings.model_validate(
            {
                "region": names.region, "fqdn": names.fqdn, "subscription": names.hub_subscription,
                "resource_group": names.hub_group, "identity": identity,
            }, strict=False
        )  # fmt: skip


def use(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_hub_with_ad_fs_signs_in_there_and_asks_nobody_outside(
    adfs_settings: tuple[Estate, HubSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    estate, settings = adfs_settings
    use(estate.environment, monkeypatch)
    hub = Hub(settings)
    assert hub.identity.check("hub identity").found == f"signed in at {estate.names.adfs}"
    assert isinstance(hub.machine(estate.names.vm), Machine)
    assert list(estate.journal.lines()) == []


def test_a_tenant_of_the_other_kind_is_a_mistake_of_the_settings(
    adfs_settings: tuple[Estate, HubSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    estate, settings = adfs_settings
    use(estate.environment, monkeypatch)
    identity = settings.identity.model_copy(update={"tenant": estate.names.tenant})
    error = caught(lambda: hub_endpoints(settings.model_copy(update={"identity": identity})))
    assert isinstance(error, SettingsError)
    assert "AD FS" in str(error.found)


@pytest.mark.parametrize("authority", ["https://adfs.north.hub.example/adfs", "https://adfs.north.hub.example"])
def test_an_authority_may_be_named_with_and_without_adfs(
    adfs_settings: tuple[Estate, HubSettings], monkeypatch: pytest.MonkeyPatch, authority: str
) -> None:
    estate, settings = adfs_settings
    use(estate.environment, monkeypatch)
    named = settings.model_copy(update={"identity": settings.identity.model_copy(update={"authority": authority})})
    identity = Identity("the hub", named.identity, lambda: hub_endpoints(named))
    assert identity.check("hub identity").ok


def test_checks_that_look_ahead_are_of_key_and_certificate(twin_site: Load, estate: Estate) -> None:
    import os

    site = twin_site(COMPUTE__SSH__MAX_KEY_AGE_DAYS="30")
    assert isinstance(site.compute, VmCompute)
    assert [check.ok for check in StackHubCompute(site).checks()] == [True]
    key = site.compute.ssh.key
    assert key
    stamp = key.stat().st_mtime
    os.utime(key, (stamp, stamp - 40 * 86_400))
    try:
        (check,) = [check for check in StackHubCompute(site).checks() if not check.ok]
        assert (check.name, check.found) == ("ssh key age", "40 days")
        assert failed(site) == {}  # an old key stops no run
    finally:
        os.utime(key, (stamp, stamp))
