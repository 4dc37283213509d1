"""Is a published image what its site says, and may it be used? Answered from the image and public keys alone.

Nothing but the place that the image is in is asked. What is read is hashed first, what is said must be signed by a
trusted key, and what is said must agree with what is there; anything that does not is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from insitu.decisions import Record
from insitu.errors import SignatureRefused
from insitu.images.attest import Attested, Foreign, attestations
from insitu.images.bills import software_layers
from insitu.images.claims import (
    check_cleared,
    check_decision,
    check_materials,
    check_model,
    check_origin,
    check_provenance,
    check_software,
    is_about_software,
    require,
    require_one_subject,
    require_own_words,
    require_subject,
    residency_lines,
)
from insitu.images.described import BASE_DIGEST, LABEL, REVISION, Described, describe
from insitu.images.inventory import inventory
from insitu.images.reading import verified_copy
from insitu.images.statements import (
    DECISION,
    MODEL,
    PROVENANCE,
    REQUIRED,
    RESIDENCY,
    SBOM,
    TITLES,
    builder_at,
)
from insitu.ports import ImageRegistry
from insitu.signing import PublicKey

_IN_LAYERS = ("what the layers hold", "that the model signature is about the model in the layers")


@dataclass(frozen=True)
class Verified:
    """An image that passed, and what that means.

    Attributes:
        facts: What its labels say and signed statements repeat: model, version, run key, batch, code, decision.
        keys: Ids of the keys that signed.
        hashed_bytes: How many bytes were read and hashed.
        proved: What is proved, a line each.
        unproved: What is not, a line each.
        others: What else refers to the image: not trusted, and not looked into.
        ended: When the override ended that let the image be published; None where none did, or it still counts.
    """

    image: str
    digest: str
    facts: Mapping[str, str]
    keys: tuple[str, ...]
    hashed_bytes: int
    proved: tuple[str, ...]
    unproved: tuple[str, ...]
    others: tuple[str, ...]
    ended: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"verified": True, **asdict(self)}


def verify_image(
    images: ImageRegistry,
    digest: str,
    trusted: Collection[PublicKey],
    *,
    quick: bool = False,
    now: datetime | None = None,
) -> Verified:
    """Return what is proved about the image *digest*.

    Args:
        images: Where it is.
        digest: Of its manifest.
        trusted: The keys whose signatures count.
        quick: Leave the layers unread, and what can only be said with them unproved.
        now: When it is; overrides of the gate end.

    Raises:
        PublishFailed: The image, or a part of it, is missing or has other bytes than its digest names.
        SignatureRefused: A statement that is required is missing; or one is altered, about another image, or does not
            agree with what is there; or no decision allows the image.
        ImageFailed: What has the digest is no image.
        BackendUnavailable: No answer.
    """
    image = describe(images, digest)
    found = list(attestations(images, digest, trusted))
    ours = [one for one in found if isinstance(one, Attested)]
    foreign = [one for one in found if isinstance(one, Foreign)]
    software = [one for one in ours if is_about_software(image, one)]
    own = [one for one in ours if one not in software]
    signed = {kind: [one for one in own if one.kind == kind] for kind in TITLES}
    _require_all(images, signed, foreign)
    require_own_words(image)
    proved, doubts, ended = _check_said(image, own, signed, trusted, now or datetime.now(UTC))
    hashed_bytes = image.manifest.size_bytes + image.config.size_bytes
    about = [title for kind, title in REQUIRED.items() if kind != MODEL or not quick]  # the model is in the layers
    if not quick:
        hashed_bytes += _hash_layers(images, image)
        proved += _check_inside(images, image, signed, software)
    return Verified(
        image=images.name,
        digest=digest,
        facts=_facts(image),
        keys=tuple(sorted({one.key for one in ours})),
        hashed_bytes=hashed_bytes,
        proved=(
            f"manifest and configuration have the bytes of {digest}",
            f"{', '.join(about)}: signed, and about this image",
            *proved,
        ),
        unproved=tuple(_unproved(quick, doubts, ours)),
        others=tuple(map(str, foreign)),
        ended=ended,
    )


def _check_said(
    image: Described,
    ours: list[Attested],
    signed: Mapping[str, list[Attested]],
    trusted: Collection[PublicKey],
    now: datetime,
) -> tuple[list[str], list[str], str | None]:
    """Return what the statements prove without the layers, doubts, and when what allowed the image ended.

    Raise `SignatureRefused` where one does not fit the image.
    """
    for one in ours:
        if one.kind == MODEL:
            require_one_subject(one)
        else:
            require_subject(one, image.manifest.digest.removeprefix("sha256:"))
    for one in signed[PROVENANCE]:
        check_provenance(image, one)
    records = [check_decision(image, one, trusted) for one in signed[DECISION]]
    for one in signed[PROVENANCE]:
        for record in records:
            require(one, "site", one.predicate["runDetails"]["builder"]["id"], builder_at(record.site))
    allowed, doubts, ended = _require_allowed(records, now)
    proved = [allowed]
    for one in signed[RESIDENCY]:
        stayed, unsure = residency_lines(one)
        proved, doubts = [*proved, *stayed], [*doubts, *unsure]
    return proved, doubts, ended


def _require_all(images: ImageRegistry, signed: Mapping[str, list[Attested]], foreign: list[Foreign]) -> None:
    """Raise unless there is a statement of each required kind by a trusted key."""
    missing = [kind for kind in REQUIRED if not signed[kind]]
    if missing:
        why = [str(one) for one in foreign if one.kind in missing]
        raise SignatureRefused(
            f"the image in {images.name} has no {', no '.join(REQUIRED[kind] for kind in missing)} by a trusted key",
            found="; ".join(why) or "none at all",
            wanted=f"signed statements: {', '.join(REQUIRED.values())}",
            next_action="name the key of the site that published it (--key); an image that insitu published before"
            " it attested anything has none: retrain",
        )


def _require_allowed(records: list[Record], now: datetime) -> tuple[str, list[str], str | None]:
    """Return by which decision the image was published, doubts about it, and when that ended; raise when by none.

    A site signs and publishes by an override while it counts, so one that has ended since was good then.
    """
    for record in records:
        by = f"{record.kind} by {record.who} at {record.when}"
        if record.kind == "approval":
            return f"decision: {by}, over the verdict {record.verdict}", [], None
        if record.kind == "override":
            said = f"decision: {by} until {record.expires}, over the verdict {record.verdict}"
            if not record.is_over(now):
                return said, [], None
            doubt = f"that it may be used now: the override that let it be published ended at {record.expires}"
            return f"{said}; it counted when the site published by it", [doubt], record.expires
        if record.kind == "gate" and record.verdict == "promote":
            asks = record.settings.get("gate", {}).get("approval") == "always"
            doubt = "that a person approved: the gate's settings on record ask for one, and the gate alone let it pass"
            return f"decision: the gate promoted it at {record.when}", [doubt] if asks else [], None
    over = [f"{one.kind} by {one.who}, verdict {one.verdict}, until {one.expires or 'always'}" for one in records]
    raise SignatureRefused(
        "no decision allows the image",
        found="; ".join(over),
        wanted="a promotion by the gate, an approval, or an override",
        next_action="use an earlier version, or have a person decide anew at the site",
    )


def _hash_layers(images: ImageRegistry, image: Described) -> int:
    """Return how many bytes the layers have; raise `PublishFailed` when one has others than its digest names."""
    for layer in image.layers:
        with verified_copy(images, layer):
            pass
    return sum(layer.size_bytes for layer in image.layers)


def _check_inside(
    images: ImageRegistry, image: Described, signed: Mapping[str, list[Attested]], software: list[Attested]
) -> list[str]:
    """Return what the layers prove; raise where a statement says something else than they hold.

    An SBOM of the image must list its software, too, unless it leaves that to the SBOM of the *software*: an image that
    was attested before those were two may be attested again.
    """
    below, above = inventory(images, software_layers(image)), inventory(images, image.layers[-1:])
    inside = below.below(above)
    for one in software:
        check_software(below, one)
    for one in signed[SBOM]:
        split = bool(software and one.predicate.get("externalReferences"))
        check_materials(image, replace(above, model=inside.model) if split else inside, one, linked=split)
    for one in signed[MODEL]:
        check_model(inside, one)
    for one in signed[PROVENANCE]:
        check_origin(inside, one)
    for one in signed[RESIDENCY]:
        check_cleared(inside, one)
    return [
        f"{len(image.layers)} layers have the bytes that the manifest names",
        f"the SBOM lists what the layers hold: {len(inside.packages)} packages, {len(inside.system)} system files",
        f"the model signature covers the {len(inside.model)} files of the model's folder, and no other is there",
        "the model's files are those that the provenance names as what training left",
    ]


def _facts(image: Described) -> dict[str, str]:
    facts = {name.removeprefix(LABEL): value for name, value in image.labels.items() if name.startswith(LABEL)}
    more = {"revision": REVISION, "base": BASE_DIGEST}
    return facts | {name: image.annotations[key] for name, key in more.items() if key in image.annotations}


def _unproved(quick: bool, doubts: list[str], signed: list[Attested]) -> list[str]:
    more = [one for one in signed if one.kind not in TITLES]
    return [
        *((f"{what}: they were not read (--quick)" for what in _IN_LAYERS) if quick else ()),
        *doubts,
        *(f"what the {one.title} says: it is signed, and this insitu does not read it" for one in more),
        *([] if any(one.kind == RESIDENCY for one in signed) else ["that no record left: no residency statement"]),
        "who the people are that decided: names on record are not checked by anybody",
    ]
