"""Signatures over bytes: DSSE envelopes (version 1), signed by ed25519 keys.

The payload is signed as it is stored, together with its type, so nobody has to agree on a canonical form:
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from insitu.errors import SignatureRefused

WANTED_PRIVATE = "an ed25519 key as PEM, without passphrase: `openssl genpkey -algorithm ed25519`"
WANTED_PUBLIC = "an ed25519 public key as PEM: `openssl pkey -pubout`"


@dataclass(frozen=True)
class PublicKey:
    """What verifies; two are equal when they are the same key."""

    raw: bytes

    @property
    def id(self) -> str:
        """Hex sha256 of the key: a hint in envelopes, and what people compare."""
        return sha256(self.raw).hexdigest()

    @property
    def pem(self) -> bytes:
        """The key as a PEM file."""
        key = Ed25519PublicKey.from_public_bytes(self.raw)
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Tell whether *signature* is this key's over *message*."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    @staticmethod
    def from_pem(text: bytes) -> PublicKey | None:
        """Return the key of a PEM file; None when it holds something else."""
        try:
            key = load_pem_public_key(text)
        except (ValueError, UnsupportedAlgorithm):
            return None
        return PublicKey(key.public_bytes_raw()) if isinstance(key, Ed25519PublicKey) else None


@dataclass(frozen=True)
class SigningKey:
    """What signs. Its bytes go into no log, error or record."""

    _key: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """The half that verifies."""
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the signature over *message*."""
        return self._key.sign(message)

    @staticmethod
    def new_pem() -> str:
        """Return a new key as a PEM file."""
        key = Ed25519PrivateKey.generate()
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @staticmethod
    def from_pem(text: bytes) -> SigningKey | None:
        """Return the key of a PEM file; None when it holds something else, or wants a passphrase."""
        try:
            key = load_pem_private_key(text, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return None
        return SigningKey(key) if isinstance(key, Ed25519PrivateKey) else None


@dataclass(frozen=True)
class Keys:
    """The keys of a site, looked up when they are needed.

    Attributes:
        own: Returns the key that signs here; may make it.
        trusted: Returns every key whose signatures count; makes none.
    """

    own: Callable[[], SigningKey]
    trusted: Callable[[], Collection[PublicKey]]


def sign(payload_type: str, payload: bytes, key: SigningKey) -> bytes:
    """Return the envelope of *payload* as JSON text."""
    signature = {"keyid": key.public.id, "sig": base64.b64encode(key.sign(pae(payload_type, payload))).decode()}
    envelope = {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [signature],
    }
    return json.dumps(envelope, indent=1).encode()


def verify(envelope: bytes, payload_type: str, trusted: Collection[PublicKey]) -> bytes:
    """Return the payload of *envelope*, which one of the *trusted* keys has signed as *payload_type*.

    Raises:
        SignatureRefused: It is no envelope, of another type, or no trusted key's signature fits.
    """
    try:
        parts: Any = json.loads(envelope)
        found_type, payload = str(parts["payloadType"]), _decoded(parts["payload"])
        signatures = [_decoded(one["sig"]) for one in parts["signatures"]]
        signers = ", ".join(str(one.get("keyid", "unnamed"))[:12] for one in parts["signatures"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SignatureRefused("what should be signed is no DSSE envelope") from None
    if found_type != payload_type:
        raise SignatureRefused("what is signed is something else", found=ascii(found_type), wanted=payload_type)
    message = pae(payload_type, payload)
    if not any(key.verifies(signature, message) for key in trusted for signature in signatures):
        raise SignatureRefused(
            "no signature is that of a trusted key over these bytes",
            found=f"signed by key {ascii(signers)[1:-1] or 'nobody'}",
            wanted=f"signed by key {', '.join(sorted(key.id[:12] for key in trusted)) or '(none is there)'}",
        )
    return payload


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return what is signed: the pre-authentication encoding of type and payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _decoded(text: str) -> bytes:
    """Return the bytes of base64 text in either alphabet."""
    return base64.b64decode(text.translate(str.maketrans("-_", "+/")), validate=True)
