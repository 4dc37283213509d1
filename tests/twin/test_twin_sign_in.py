"""Signing in to the twin with Microsoft's own library, and what a token is good for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CertificateCredential, ClientSecretCredential
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from twin_helpers import MANAGEMENT, ask_hub, code_of, hub_credential, hub_token

from insitu.twin.estate import Estate
from insitu.twin.server import running_estate
from insitu.twin.web import Refused


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, x509.Certificate]:
    """A certificate of an application, and the PEM file of it and its key."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "insitu")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    file = tmp_path_factory.mktemp("certificate") / "client.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file, made


@pytest.fixture
def adfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    """An estate whose hub is disconnected from Entra."""
    with running_estate(tmp_path / "twin", hub_identity="adfs", in_memory=True) as estate:
        for name, value in estate.environment.items():
            monkeypatch.setenv(name, value)
        yield estate


def _secret(estate: Estate, **changes: str) -> ClientSecretCredential:
    names = estate.names
    values = {"tenant_id": names.tenant, "client_id": names.client, "client_secret": estate.client_secret.read_text()}
    return ClientSecretCredential(**{**values, **changes})


def _refusal(estate: Estate, token: str, audience: str = "https://management.azure.com") -> str:
    with pytest.raises(Refused) as caught:
        estate.directory.check({"authorization": f"Bearer {token}"}, audience)
    assert caught.value.status == 401
    assert caught.value.headers["WWW-Authenticate"].startswith("Bearer ")
    code: str = caught.value.body["error"]["code"]
    return code


def test_a_secret_signs_in_for_one_audience(estate: Estate) -> None:
    token = _secret(estate).get_token(MANAGEMENT).token

    who = estate.directory.check({"Authorization": f"Bearer {token}"}, "https://management.azure.com/")
    assert (who.tenant, who.client_id) == (estate.names.tenant, estate.names.client)
    assert _refusal(estate, token, "https://ml.azure.com") == "InvalidAuthenticationTokenAudience"
    answer = ask_hub(estate, "GET", "/subscriptions", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, code_of(answer)) == (401, "InvalidAuthenticationTokenAudience")


def test_a_certificate_signs_in_at_entra_and_at_ad_fs(
    estate: Estate, adfs: Estate, certificate: tuple[Path, x509.Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, public = certificate
    names = adfs.names
    adfs.directory.register("adfs", names.hub_client).certificates.append(public)
    place = {"authority": f"https://{names.adfs}", "disable_instance_discovery": True}
    scope = f"{adfs.hub_audience}/.default"
    token = CertificateCredential("adfs", names.hub_client, str(file), **place).get_token(scope).token
    assert adfs.directory.check({"Authorization": f"Bearer {token}"}, adfs.hub_audience).client_id == names.hub_client

    for name, value in estate.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
        CertificateCredential(names.tenant, names.client, str(file)).get_token(MANAGEMENT)
    estate.directory.register(names.tenant, names.client).certificates.append(public)
    assert CertificateCredential(names.tenant, names.client, str(file)).get_token(MANAGEMENT).token


def test_a_hub_with_ad_fs_takes_its_own_tokens_and_entra_s_not(adfs: Estate) -> None:
    assert ask_hub(adfs, "GET", "/subscriptions").ok
    foreign = _secret(adfs).get_token(MANAGEMENT).token
    assert ask_hub(adfs, "GET", "/subscriptions", headers={"Authorization": f"Bearer {foreign}"}).status_code == 401


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"client_secret": "wrong"}, "AADSTS7000215"),
        ({"client_id": "00000000-0000-4000-8000-000000000000"}, "AADSTS700016"),
        ({"tenant_id": "00000000-0000-4000-8000-000000000000"}, "AADSTS90002"),
    ],
)
def test_who_is_not_known_is_told_so_in_entra_s_words(estate: Estate, changes: dict[str, str], code: str) -> None:
    with pytest.raises((ClientAuthenticationError, ValueError), match=f"{code}|{changes.get('tenant_id', code)}"):
        _secret(estate, **changes).get_token(MANAGEMENT)
    assert "wrong" not in (estate.folder / "egress.jsonl").read_text()


@pytest.mark.parametrize(
    ("scope", "code"),
    [("https://nobody.example/.default", "AADSTS500011"), ("https://management.azure.com/read", "AADSTS1002012")],
)
def test_a_resource_that_is_not_there_is_refused(estate: Estate, scope: str, code: str) -> None:
    with pytest.raises(ClientAuthenticationError, match=code):
        _secret(estate).get_token(scope)


def test_an_expired_secret_is_refused(estate: Estate) -> None:
    estate.set_condition("secret-expired")

    with pytest.raises(ClientAuthenticationError, match="AADSTS7000222"):
        _secret(estate).get_token(MANAGEMENT)


@pytest.mark.parametrize(
    ("condition", "code"),
    [("token-expired", "ExpiredAuthenticationToken"), ("tokens-revoked", "InvalidAuthenticationToken")],
)
def test_tokens_end_when_they_are_told_to_and_new_ones_are_good(estate: Estate, condition: str, code: str) -> None:
    token = _secret(estate).get_token(MANAGEMENT).token
    estate.set_condition(condition)

    assert _refusal(estate, token) == code
    token = _secret(estate).get_token(MANAGEMENT).token
    assert estate.directory.check({"Authorization": f"Bearer {token}"}, "https://management.azure.com")


def test_tokens_expire_by_themselves(estate: Estate) -> None:
    token = _secret(estate).get_token(MANAGEMENT).token
    estate.clock_skew_s = 3601
    try:
        assert _refusal(estate, token) == "ExpiredAuthenticationToken"
    finally:
        estate.clock_skew_s = 0


def test_forged_tokens_and_other_schemes_are_refused(estate: Estate) -> None:
    token = _secret(estate).get_token(MANAGEMENT).token
    claims = jwt.decode(token, options={"verify_signature": False})
    key = rsa.generate_private_key(65537, 2048)

    assert _refusal(estate, jwt.encode(claims, key, "RS256")) == "InvalidAuthenticationToken"
    assert _refusal(estate, jwt.encode(claims, None, "none")) == "InvalidAuthenticationToken"
    assert _refusal(estate, "") == "AuthenticationFailed"
    assert ask_hub(estate, "GET", "/subscriptions", headers={"Authorization": "Basic YTpi"}).status_code == 401


def test_a_role_holds_for_its_scope_and_below(estate: Estate) -> None:
    names, reader = estate.names, "33333333-0000-4000-8000-000000000000"
    roles = {names.hub_group_id: ("Reader",)}
    estate.directory.register(names.tenant, reader, "a-secret-of-the-reader", roles)
    credential = ClientSecretCredential(names.tenant, reader, "a-secret-of-the-reader")
    bearer = {"Authorization": f"Bearer {credential.get_token(f'{estate.hub_audience}/.default').token}"}
    vm = f"Microsoft.Compute/virtualMachines/{names.vm}"

    assert ask_hub(estate, "GET", vm, headers=bearer).ok
    refused = ask_hub(estate, "POST", f"{vm}/start", headers=bearer)
    assert (refused.status_code, code_of(refused)) == (403, "AuthorizationFailed")
    elsewhere = f"{names.hub_group_id}-other/providers/{vm}"
    assert ask_hub(estate, "GET", elsewhere, headers=bearer).status_code == 404
    assert hub_token(estate)
    assert hub_credential(estate)
