"""Names of blobs as they may leave a site: not at all, under the site's key, or as they are.

A name may tell who somebody is. Under the key (HMAC-SHA256) it tells nothing to whoever lacks it, and yet the site
can show later that a blob was in a batch, or was not.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Literal

from insitu.residency.statement import KEYED
from insitu.signing import SigningKey

Naming = Literal["none", "keyed", "plain"]

_LABEL = b"insitu/blob-names/v1"


def outward(names: Iterable[str], naming: Naming, key: SigningKey) -> list[str]:
    """Return *names*, in their order, as they may leave."""
    if naming == "none":
        return []
    if naming == "plain":
        return list(names)
    # Ed25519 signs deterministically, so this is a secret of the key's own; no envelope is ever signed over such bytes.
    secret = sha256(key.sign(_LABEL)).digest()
    return [f"{KEYED}{hmac.new(secret, name.encode(), sha256).hexdigest()}" for name in names]
