"""Signatures: as the documents of DSSE say, refused when anything differs; keys are made once and stay private."""

from __future__ import annotations

import base64
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from insitu.adapters.signing_keys import own_key, trusted_keys
from insitu.errors import SettingsError, SignatureRefused
from insitu.settings import SecretSource, SigningSettings
from insitu.signing import PublicKey, SigningKey, pae, sign, verify

STATEMENT = "application/vnd.in-toto+json"


def key_of(seed: str) -> SigningKey:
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    found = SigningKey.from_pem(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert found
    return found


KEY = key_of("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # RFC 8032, 7.1, test 1
OTHER = key_of("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")  # test 2
# secure-systems-lab/dsse, testvectors/vectors.json at 82043ad: one signature, payload, type, and what is expected
VECTORS = [
    (
        "2WAfaHm5jluo0w+0rk8uVkluELJYWjSmU9x7EUzx+AyteDGJ4/nqyJXfmAUVFIAoQafWm7AxBZNw5M9ixNHiCA==",
        b'{"_type":"https://in-toto.io/Statement/v1"}',
        STATEMENT,
    ),
    (
        "P-_KHICeR7tI6S_YyejJTRtrXhcQyQ2LYPaL8h90KjC9qN8HU_svOQ6TuDOT1HIrsGW886DbWNWcCmX5twLrAw==",
        base64.urlsafe_b64decode("-_-_Pj8="),
        STATEMENT,
    ),
    (
        "xmSk/ug66ysT7ayhkCIjhAq42zgZXSsEWuzUaNL7w2eGAdF/NU6/fRXPtmfN+5DNSAs5/i2lUnHjbbjPsu0tAw==",
        b'{"_type":"https://in-toto.io/Statement/v1"}',
        "application/vnd.ex\u00e4mple+json",
    ),
    ("gSggCAaTLTYyRH6FIDBem6meyIynsYy8RTHVzwx9tnTb7Bg/1jMWnuVgI/gffqmbsC2VX5/jHfkkDqsj7CDbDg==", b"", STATEMENT),
]


def envelope(signature: str, payload: bytes, kind: str, alphabet: Any = base64.b64encode) -> bytes:
    parts = {"payloadType": kind, "payload": alphabet(payload).decode(), "signatures": [{"sig": signature}]}
    return json.dumps(parts).encode()


def test_what_is_signed_is_what_the_protocol_document_shows() -> None:
    # https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, "Test Vectors": ECDSA over P-256
    message = pae("http://example.com/HelloWorld", b"hello world")
    assert message == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    raw = base64.b64decode("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
    signature = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    public = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    ).public_key()
    public.verify(signature, message, ec.ECDSA(SHA256()))


@pytest.mark.parametrize(("signature", "payload", "kind"), VECTORS)
def test_signatures_are_those_of_the_published_vectors(signature: str, payload: bytes, kind: str) -> None:
    ours = json.loads(sign(kind, payload, KEY))["signatures"][0]["sig"]
    assert ours == signature.replace("-", "+").replace("_", "/")
    for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
        assert verify(envelope(signature, payload, kind, alphabet), kind, [OTHER.public, KEY.public]) == payload


def test_a_signature_for_another_type_counts_for_no_other() -> None:
    signature, payload, _ = VECTORS[0]
    swapped = envelope(signature, payload, "application/vnd.example.other+json")
    for wanted in (STATEMENT, "application/vnd.example.other+json"):
        with pytest.raises(SignatureRefused):
            verify(swapped, wanted, [KEY.public])


@given(st.data())
def test_an_envelope_that_was_altered_anywhere_says_the_same_or_is_refused(data: st.DataObject) -> None:
    whole = sign(STATEMENT, b"promote", KEY)
    at = data.draw(st.integers(0, len(whole) - 1))
    altered = whole[:at] + bytes([data.draw(st.integers(32, 126))]) + whole[at + 1 :]
    try:
        assert verify(altered, STATEMENT, [KEY.public]) == b"promote"
    except SignatureRefused:
        assert altered != whole


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"\xff", b'{"payloadType": "t", "payload": 1, "signatures": []}'])
def test_what_is_no_envelope_is_refused(text: bytes) -> None:
    with pytest.raises(SignatureRefused):
        verify(text, "t", [KEY.public])


def test_nothing_is_trusted_where_there_is_no_key_and_the_error_names_the_signer() -> None:
    with pytest.raises(SignatureRefused) as refused:
        verify(sign(STATEMENT, b"promote", OTHER), STATEMENT, [])
    assert OTHER.public.id[:12] in refused.value.render()


def settings_of(folder: Path, *trusted: Path) -> SigningSettings:
    return SigningSettings(key=SecretSource(file=folder / "keys" / "signing.pem"), trusted=list(trusted))


def test_a_key_is_made_once_however_many_ask_at_the_same_time_and_is_private(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert trusted_keys(settings) == []  # looking makes none
    with ThreadPoolExecutor(8) as people:
        keys = set(people.map(lambda _: own_key(settings).public, range(8)))
    assert len(keys) == 1
    file = tmp_path / "keys" / "signing.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in sorted(file.parent.iterdir())] == ["signing.pem", "signing.pub"]
    assert PublicKey.from_pem(file.with_suffix(".pub").read_bytes()) == keys.pop() == trusted_keys(settings)[0]


def test_the_key_of_another_machine_counts_when_it_is_named(tmp_path: Path) -> None:
    theirs = own_key(settings_of(tmp_path / "theirs"))
    ours = settings_of(tmp_path / "ours", tmp_path / "theirs" / "keys" / "signing.pub")
    own_key(ours)
    assert verify(sign(STATEMENT, b"promote", theirs), STATEMENT, trusted_keys(ours)) == b"promote"


def test_a_key_comes_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_THE_SITE", SigningKey.new_pem())
    settings = SigningSettings(key=SecretSource(env="KEY_OF_THE_SITE"))
    assert trusted_keys(settings) == [own_key(settings).public]


@pytest.mark.parametrize("content", ["-----BEGIN RSA", "c2VjcmV0"])
def test_something_else_in_the_place_of_a_key_is_named_and_not_shown(tmp_path: Path, content: str) -> None:
    settings = settings_of(tmp_path, tmp_path / "other.pub")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "signing.pem").write_text(content)
    (tmp_path / "other.pub").write_text(content)
    for ask in (own_key, trusted_keys):
        with pytest.raises(SettingsError) as failed:
            ask(settings)
        assert "ed25519" in failed.value.render()
        assert content not in failed.value.render()
    with pytest.raises(SettingsError, match=r"other\.pub"):
        trusted_keys(settings_of(tmp_path / "mine", tmp_path / "other.pub"))
