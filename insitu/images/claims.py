"""Whether what is said about an image is true of it: each statement against the labels, and against what is there.

Every function raises `SignatureRefused` that names the statement and what of it is not so, whoever has signed it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from typing import Any

from insitu.decisions import Record, opened
from insitu.errors import SignatureRefused
from insitu.images.attest import Attested
from insitu.images.bills import materials_in, materials_of, software_in, software_of, subjects_of_software
from insitu.images.described import LABEL, REVISION, Described
from insitu.images.inventory import Inventory
from insitu.images.statements import (
    BUILD_TYPE,
    OWN_FILES,
    PARAMETERS,
    SBOM,
    base_of,
    model_digest,
)
from insitu.residency.statement import lines
from insitu.signing import PublicKey

_ANEW = (
    "take the image from where it was published; if it is the same there, do not use it, and find out who altered it"
)


def require(one: Attested, what: str, found: Any, wanted: Any) -> None:
    """Raise `SignatureRefused` unless what a statement says (*found*) is so (*wanted*)."""
    if found != wanted:
        raise SignatureRefused(
            f"the {one.title} ({one.manifest[:19]}) does not fit the image: {what}",
            found=_short(found),
            wanted=_short(wanted),
            next_action=_ANEW,
        )


def require_one_subject(one: Attested) -> None:
    """Raise unless a statement is about one thing."""
    if len(one.subjects) != 1:
        raise SignatureRefused(
            f"the {one.title} ({one.manifest[:19]}) is not about one thing",
            found=f"{len(one.subjects)} subjects",
            wanted="1 subject",
        )


def require_subject(one: Attested, wanted: str) -> None:
    """Raise unless a statement is about one thing, whose hex sha256 is *wanted*."""
    require_one_subject(one)
    require(one, "subject", one.subjects[0], wanted)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 300 else f"{text[:300]}..."


def require_own_words(image: Described) -> None:
    """Raise unless the annotations of the manifest say what insitu's labels of the configuration say."""
    for name in sorted({*image.labels, *image.annotations}):
        said, labelled = image.annotations.get(name), image.labels.get(name)
        if name.startswith(LABEL) and said != labelled:
            raise SignatureRefused(
                f"the image contradicts itself about {name}", found=f"annotation {said}", wanted=f"label {labelled}"
            )


def check_provenance(image: Described, one: Attested) -> None:
    """Raise unless the provenance says what the image's labels say."""
    try:
        build, run = one.predicate["buildDefinition"], one.predicate["runDetails"]
        made_of = {str(part["name"]): dict(part["digest"]) for part in build["resolvedDependencies"]}
        require(one, "build type", build["buildType"], BUILD_TYPE)
        for name in PARAMETERS:
            require(one, name, build["externalParameters"].get(name), image.fact(name))
        require(one, "run key", run["metadata"]["invocationId"], image.fact("run_key"))
    except (KeyError, TypeError, AttributeError):
        raise SignatureRefused(f"the provenance ({one.manifest[:19]}) is not one that insitu writes") from None
    for name, label in (("batch", "batch_fingerprint"), ("code", "code")):
        require(one, name, made_of.get(name), {"sha256": image.fact(label)})
    revision = image.annotations.get(REVISION)
    require(one, "git commit", made_of.get("source"), {"gitCommit": revision} if revision else None)
    require(one, "base", made_of.get("base"), {"sha256": base_of(image)})


def check_decision(image: Described, one: Attested, trusted: Collection[PublicKey]) -> Record:
    """Return the record that the statement holds; raise unless it is about this image's run."""
    envelope = str(one.predicate.get("envelope", "")).encode()
    require(one, "digest of the record", one.predicate.get("digest"), f"sha256:{sha256(envelope).hexdigest()}")
    try:
        record = opened(envelope, trusted)
    except SignatureRefused as exc:
        what = f"the decision ({one.manifest[:19]}) holds a record that is not trusted: {exc.what}"
        raise SignatureRefused(what, found=exc.found, wanted=exc.wanted, next_action=_ANEW) from None
    about = {"model": record.model, "run_key": record.run_key, "batch_fingerprint": record.batch}
    for name, value in {**about, "decision": record.statement}.items():
        require(one, name, value, image.fact(name))
    return record


def residency_lines(one: Attested) -> tuple[list[str], list[str]]:
    """Return what the residency statement proves, and what it does not."""
    try:
        return lines(one.predicate)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SignatureRefused(f"the residency statement ({one.manifest[:19]}) is not one that insitu writes") from None


def is_about_software(image: Described, one: Attested) -> bool:
    """Tell whether it is an SBOM of the image's layers below that of the model, rather than of the image."""
    return one.kind == SBOM and bool(one.subjects) and one.subjects == subjects_of_software(image)


def check_software(software: Inventory, one: Attested) -> None:
    """Raise unless the SBOM of the layers below the model's lists what they hold, and nothing else."""
    _compare(one, software_of, software_in(software))


def check_materials(image: Described, inside: Inventory, one: Attested, *, linked: bool) -> None:
    """Raise unless the SBOM of the image lists what the layers hold, and nothing else; see `materials_in`."""
    _compare(one, materials_of, materials_in(image, inside, linked=linked))


def _compare(one: Attested, read: Callable[[Mapping[str, Any]], dict[str, Any]], there: Mapping[str, Any]) -> None:
    try:
        claimed = read(one.predicate)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        raise SignatureRefused(f"the SBOM ({one.manifest[:19]}) is not one that insitu writes") from None
    for what, wanted in there.items():
        require(one, what, claimed[what], wanted)


def check_model(inside: Inventory, one: Attested) -> None:
    """Raise unless the model signature covers the files of the model's folder, and no others."""
    try:
        method = one.predicate["serialization"]["method"], one.predicate["serialization"]["hash_type"]
        files = {str(part["name"]): str(part["digest"]) for part in one.predicate["resources"]}
    except (KeyError, TypeError):
        raise SignatureRefused(f"the model signature ({one.manifest[:19]}) is not one that insitu writes") from None
    require(one, "method", method, ("files", "sha256"))
    require(one, "files of the model", files, dict(inside.model))
    require_subject(one, model_digest(files))


def check_origin(inside: Inventory, one: Attested) -> None:
    """Raise unless the provenance names the model's files as what training left."""
    made_of = {part["name"]: part["digest"] for part in one.predicate["buildDefinition"]["resolvedDependencies"]}
    for name, digest in _as_trained(inside).items():
        require(one, f"model file {name}", made_of.get(name), {"sha256": digest})


def check_cleared(inside: Inventory, one: Attested) -> None:
    """Raise unless the files that the residency statement is about are those of the model's folder."""
    told = one.predicate.get("files")
    for name, digest in _as_trained(inside).items():
        require(one, f"model file {name}", told.get(name) if isinstance(told, dict) else None, digest)


def _as_trained(inside: Inventory) -> dict[str, str]:
    """Return the files of the model's folder that are as training left them."""
    return {name: digest for name, digest in inside.model.items() if name not in OWN_FILES}
