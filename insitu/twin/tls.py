"""The twin's own certificate authority, and certificates of the hosts that it plays."""

from __future__ import annotations

import os
import ssl
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from threading import Lock

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_YEARS = timedelta(days=3650)
_DAYS = timedelta(days=90)
_KEY_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Authority:
    """A certificate authority whose key lies in *folder*: made at first use, and the same from then on."""

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "ca.pem"
        """PEM file of the authority: what clients must trust."""
        self._folder = folder
        self._contexts: dict[tuple[str, str], ssl.SSLContext] = {}
        self._lock = Lock()
        folder.mkdir(parents=True, exist_ok=True)
        _ = self._certificate

    def context(self, host: str, flaw: str = "") -> ssl.SSLContext:
        """Return how a server is *host*; *flaw* is `expired`, `foreign` or `other-host`."""
        with self._lock:
            if (host, flaw) not in self._contexts:
                self._contexts[host, flaw] = self._server_context(host, flaw)
            return self._contexts[host, flaw]

    @cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        file = self._folder / "ca.key"
        if not file.exists():
            write_private(file, pem_of(ec.generate_private_key(ec.SECP256R1())))
        key = serialization.load_pem_private_key(file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key

    @cached_property
    def _certificate(self) -> x509.Certificate:
        if not self.bundle.exists():
            made = _signed("insitu twin", self._key, self._key, None, _YEARS)
            self.bundle.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return x509.load_pem_x509_certificate(self.bundle.read_bytes())

    def _server_context(self, host: str, flaw: str) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        signer, issuer = self._key, self._certificate
        if flaw == "foreign":
            signer = ec.generate_private_key(ec.SECP256R1())
            issuer = _signed("somebody else", signer, signer, None, _YEARS)
        name = "other.example" if flaw == "other-host" else host
        lasts = timedelta(minutes=-5) if flaw == "expired" else _DAYS
        chain = _signed(name, key, signer, issuer, lasts).public_bytes(serialization.Encoding.PEM)
        file = self._folder / f".leaf-{os.getpid()}-{id(key)}.pem"
        write_private(file, chain + pem_of(key))
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(file)
        finally:
            file.unlink()
        return context


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this user may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    lasts: timedelta,
) -> x509.Certificate:
    """Return the certificate of *name*: of an authority without *issuer*, else of a server."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now, is_authority = datetime.now(UTC), issuer is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + lasts)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if issuer:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(name)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _key_usage(is_authority: bool) -> x509.KeyUsage:
    wanted = {"digital_signature"} | ({"key_cert_sign", "crl_sign"} if is_authority else set())
    return x509.KeyUsage(**{use: use in wanted for use in _KEY_USES})


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
