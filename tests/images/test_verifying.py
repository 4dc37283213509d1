"""Whatever is altered of an attested image or of what is said about it is refused, by name."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from attested import KEY, SOFTWARE, STRANGER, TRUSTED, Attested, enveloped, record_of, statements_of, tiny_image

from insitu.adapters.local.images import LayoutImages
from insitu.errors import InsituError, SignatureRefused
from insitu.images.attest import PAYLOAD_TYPE, attach_statements, bundle_of
from insitu.images.client import RegistryImages
from insitu.images.described import describe
from insitu.images.manifest import canonical, parts_of
from insitu.images.publish import publish_image
from insitu.images.statements import DECISION, MODEL, PROVENANCE, REQUIRED, RESIDENCY, SBOM, Statement
from insitu.ports import Descriptor
from insitu.signing import sign
from insitu.verifying import Verified, verify_image

CALLED = {**REQUIRED, SOFTWARE: "SBOM"}
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Attested:
    return tiny_image(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Attested:
    """The next version: another model, and another run."""
    return tiny_image(tmp_path_factory.mktemp("second"), version="2")


@pytest.fixture
def ours(first: Attested, tmp_path: Path) -> Attested:
    """A copy of the first to alter."""
    return first.copy(tmp_path / "layout")


def verified(made: Attested, **options: Any) -> Verified:
    return verify_image(made.images, made.digest, TRUSTED, now=NOON, **options)


def refusal(made: Attested, **options: Any) -> str:
    with pytest.raises(InsituError) as caught:
        verified(made, **options)
    return str(caught.value)


def test_an_image_as_it_was_published_is_verified_and_says_what_is_proved_and_what_not(first: Attested) -> None:
    found = verified(first)
    assert (found.facts["model"], found.facts["version"], found.facts["revision"]) == ("tiny", "1", "d" * 40)
    assert found.keys == (KEY.public.id,)
    assert (found.others, len(found.proved)) == ((), 7)
    image = describe(first.images, first.digest)
    assert found.hashed_bytes == sum(one.size_bytes for one in (image.manifest, image.config, *image.layers))
    assert any("no residency statement" in line for line in found.unproved)
    assert json.loads(json.dumps(found.to_json()))["verified"] is True


def test_said_again_it_is_the_same_byte_by_byte_and_nothing_is_written(first: Attested, tmp_path: Path) -> None:
    again = tiny_image(tmp_path / "again")
    files = {path.name: path.read_bytes() for path in (tmp_path / "again").rglob("*") if path.is_file()}
    assert files == {path.name: path.read_bytes() for path in first.images.root.rglob("*") if path.is_file()}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "again").rglob("*")}
    attach_statements(again.images, again.image, statements_of(again, enveloped(again.record)), KEY)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "again").rglob("*")} == before


def test_without_the_layers_nothing_is_said_about_what_they_hold(ours: Attested) -> None:
    for layer in describe(ours.images, ours.digest).layers:
        path = ours.images.local_blob(layer.digest)
        assert path
        path.unlink()
    found = verified(ours, quick=True)
    assert "what the layers hold: they were not read (--quick)" in found.unproved
    assert not any("layers have the bytes" in line for line in found.proved)
    assert "SBOM, provenance, decision: signed, and about this image" in found.proved
    assert "no such" in refusal(ours).lower() or "does not have a blob" in refusal(ours)


def test_without_the_layers_nothing_is_said_of_what_model_the_signature_is_about(
    ours: Attested, second: Attested
) -> None:
    _of_the_next_version(ours, MODEL, second)
    found = verified(ours, quick=True)
    assert not any("model signature" in line for line in found.proved)
    assert any("model signature is about the model" in line for line in found.unproved)
    ours.resign(MODEL, lambda statement: statement["subject"].append(statement["subject"][0]))
    assert "the model signature" in (said := refusal(ours, quick=True))
    assert "is not about one thing" in said


# What anybody can do who may write to the registry, to each of the statements
def _removed(made: Attested, kind: str, _: Attested) -> str:
    made.drop(kind)
    return f"no {CALLED[kind]} by a trusted key"


def _payload_changed(made: Attested, kind: str, _: Attested) -> str:
    made.forge(kind, lambda bundle: _in(bundle).update(payload="B" + _in(bundle)["payload"][1:]))
    return f"the {CALLED[kind]} .* is not trusted: no signature is that of a trusted key"


def _signature_changed(made: Attested, kind: str, _: Attested) -> str:
    made.forge(kind, lambda bundle: _in(bundle)["signatures"][0].update(sig=_other_signature()))
    return f"the {CALLED[kind]} .* is not trusted: no signature is that of a trusted key"


def _in(bundle: dict[str, Any]) -> dict[str, Any]:
    envelope: dict[str, Any] = bundle["dsseEnvelope"]
    return envelope


def _other_signature() -> str:
    return str(json.loads(enveloped(record_of()))["signatures"][0]["sig"])


def _type_changed(made: Attested, kind: str, _: Attested) -> str:
    made.forge(kind, lambda bundle: _in(bundle).update(payloadType="text/plain"))
    return f"the {CALLED[kind]} .* is not trusted: what is signed is something else"


def _not_signed(made: Attested, kind: str, _: Attested) -> str:
    made.forge(kind, lambda bundle: _in(bundle).update(signatures=[]))
    return f"the {CALLED[kind]} .* is not trusted: no signature is that of a trusted key.*nobody"


def _signer_not_named(made: Attested, kind: str, _: Attested) -> str:
    made.forge(kind, lambda bundle: bundle.pop("verificationMaterial"))
    return f"no {CALLED[kind]} by a trusted key.*{CALLED[kind]} .*: signed by a key that is not trusted: unnamed"


def _signed_by_a_stranger(made: Attested, kind: str, _: Attested) -> str:
    made.exchange(kind, made.statement(kind), STRANGER)
    return f"no {CALLED[kind]} by a trusted key.*not trusted: {STRANGER.public.id[:12]}"


def _signed_by_a_stranger_in_our_name(made: Attested, kind: str, _: Attested) -> str:
    made.exchange(kind, made.statement(kind), STRANGER)
    made.forge(kind, lambda bundle: bundle["verificationMaterial"]["publicKey"].update(hint=KEY.public.id))
    return f"the {CALLED[kind]} .* is not trusted"


def _of_the_next_version(made: Attested, kind: str, other: Attested) -> str:
    made.exchange(kind, other.statement(kind))
    return f"the {CALLED[kind]} .* does not fit the image: {'files of the model' if kind == MODEL else 'subject'}"


def _of_the_next_version_beside_it(made: Attested, kind: str, other: Attested) -> str:
    made.attach(kind, json.dumps(other.attached[kind][1]).encode())
    return f"the {CALLED[kind]} .* does not fit the image: {'files of the model' if kind == MODEL else 'subject'}"


def _about_two_things(made: Attested, kind: str, other: Attested) -> str:
    made.resign(kind, lambda statement: statement["subject"].append(other.statement(kind)["subject"][0]))
    return f"the {CALLED[kind]} .* is not about one thing"


def _of_another_kind(made: Attested, kind: str, _: Attested) -> str:
    made.resign(kind, lambda statement: statement.update(predicateType=RESIDENCY))
    return f"the {CALLED[kind]} .* holds another statement than its manifest says"


def _no_statement(made: Attested, kind: str, _: Attested) -> str:
    made.exchange(kind, {"hello": 1})
    return f"the {CALLED[kind]} .* holds no in-toto statement"


def _empty_predicate(made: Attested, kind: str, _: Attested) -> str:
    made.resign(kind, lambda statement: statement.update(predicate={}))
    return f"the {CALLED[kind]} "


def _no_bundle(made: Attested, kind: str, _: Attested) -> str:
    made.drop(kind)
    made.attach(kind, b"\x80 no JSON")
    return f"the {CALLED[kind]} .* is no DSSE envelope in a bundle"


def _nested_deeply(made: Attested, kind: str, _: Attested) -> str:
    made.drop(kind)
    made.attach(kind, b"[" * 100_000)
    return f"the {CALLED[kind]} .* is no DSSE envelope in a bundle"


ANYBODY: list[Callable[[Attested, str, Attested], str]] = [
    *(_removed, _payload_changed, _signature_changed, _type_changed, _not_signed, _signer_not_named),
    *(
        _signed_by_a_stranger,
        _signed_by_a_stranger_in_our_name,
        _of_the_next_version,
        _of_the_next_version_beside_it,
        _about_two_things,
    ),
    *(_of_another_kind, _no_statement, _empty_predicate, _no_bundle, _nested_deeply),
]


@pytest.mark.parametrize(
    ("kind", "alter"),
    product(REQUIRED, ANYBODY),
    ids=lambda value: REQUIRED.get(value, "") if isinstance(value, str) else value.__name__.strip("_"),
)
def test_a_statement_that_was_altered_is_refused_by_name(
    ours: Attested, second: Attested, kind: str, alter: Callable[[Attested, str, Attested], str]
) -> None:
    wanted = alter(ours, kind, second)
    with pytest.raises(SignatureRefused, match=f"(?s){wanted}"):
        verified(ours)


@pytest.mark.parametrize("alter", [_payload_changed, _signature_changed, _no_statement, _no_bundle])
def test_a_bill_of_the_software_that_was_altered_is_refused_as_an_sbom(
    ours: Attested, second: Attested, alter: Callable[[Attested, str, Attested], str]
) -> None:
    wanted = alter(ours, SOFTWARE, second)
    with pytest.raises(SignatureRefused, match=f"(?s){wanted}"):
        verified(ours)


def test_without_the_bill_of_the_software_that_of_the_image_lists_too_little(ours: Attested) -> None:
    statement = ours.statement(SOFTWARE)
    ours.drop(SOFTWARE)
    assert "the SBOM" in (said := refusal(ours))
    assert "does not fit the image: packages" in said
    ours.attach(SBOM, json.dumps(ours.attached[SBOM][1] | {"more": 1}).encode())
    statement["subject"] = statement["subject"][:-1]
    ours.attach(SOFTWARE, bundle_of(sign(PAYLOAD_TYPE, canonical(statement), KEY), KEY.public))
    assert "the SBOM" in (said := refusal(ours))
    assert "is not about one thing" in said


def test_the_software_of_the_next_version_is_signed_to_the_same_bytes(first: Attested, second: Attested) -> None:
    assert first.attached[SOFTWARE][1] == second.attached[SOFTWARE][1]
    assert first.attached[SBOM][1] != second.attached[SBOM][1]


def test_an_image_of_before_with_all_of_it_in_one_sbom_is_verified(ours: Attested) -> None:
    software = ours.statement(SOFTWARE)["predicate"]["components"]
    ours.drop(SOFTWARE)

    def as_before(statement: dict[str, Any]) -> None:
        document = statement["predicate"]
        document["components"] += software
        del document["externalReferences"]

    ours.resign(SBOM, as_before)
    assert len(verified(ours).proved) == 7
    of_before = ours.statement(SBOM)
    ours.resign(SBOM, _part("numpy", version="2.0.0"))
    assert "does not fit the image: packages" in refusal(ours)
    ours.exchange(SBOM, of_before)
    attach_statements(ours.images, ours.image, statements_of(ours, enveloped(ours.record)), KEY)
    assert len(ours.images.referrers(ours.digest)) == 2 + len(REQUIRED)
    assert len(verified(ours).proved) == 7, "attested again, it has both"
    _part("numpy", version="2.0.0")(of_before)
    ours.attach(SBOM, bundle_of(sign(PAYLOAD_TYPE, canonical(of_before), KEY), KEY.public))
    assert "does not fit the image: packages" in refusal(ours)


def test_an_image_with_a_model_and_no_software_has_no_bill_of_that(tmp_path: Path) -> None:
    made = tiny_image(tmp_path, layers_from=3)
    assert SOFTWARE not in made.attached
    assert len(verified(made).proved) == 7


# What is signed by the right key, and is not true of this image
def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(statement: dict[str, Any]) -> None:
        place: Any = statement["predicate"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to(place[path[-1]]) if callable(to) else to

    return change


def _part(name: str, /, **fields: Any) -> Callable[[dict[str, Any]], None]:
    def change(statement: dict[str, Any]) -> None:
        (part,) = (one for one in statement["predicate"]["components"] if one["name"] == name)
        part.update(fields)

    return change


def _material(name: str, digest: dict[str, str]) -> Callable[[dict[str, Any]], None]:
    def change(statement: dict[str, Any]) -> None:
        made_of = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
        (part,) = (one for one in made_of if one["name"] == name)
        part["digest"] = digest

    return change


WRONG = {"sha256": "0" * 64}
HASHES = [{"alg": "SHA-256", "content": "0" * 64}]
RECORD = {"name": "insitu:record:sha256", "value": "0" * 64}
PACKAGE = {"type": "library", "purl": "pkg:pypi/more@1", "name": "more", "version": "1", "properties": [RECORD]}
UNTRUE: list[tuple[str, str, Callable[[dict[str, Any]], None]]] = [
    (SBOM, "image", _set("metadata", "component", "version", to="2")),
    (SBOM, "image", _set("metadata", "component", "hashes", to=HASHES)),
    (SBOM, "layers", _set("metadata", "component", "properties", to=lambda there: there[:-1])),
    (SBOM, "packages", _set("components", to=lambda all_: [*all_, PACKAGE])),
    (SBOM, "packages", _set("externalReferences", to=[])),
    (SBOM, "software", _set("externalReferences", to=lambda there: [*there, *there])),
    (SBOM, "software", _set("externalReferences", 0, "url", to="urn:cdx:00000000-0000-0000-0000-000000000000/1")),
    (SOFTWARE, "packages", _part("numpy", version="2.0.0")),
    (SOFTWARE, "packages", _part("numpy", name="numpi")),
    (SOFTWARE, "packages", _part("numpy", properties=[{"name": "insitu:record:sha256", "value": "0" * 64}])),
    (SOFTWARE, "packages", _set("components", to=lambda all_: [one for one in all_ if one["name"] != "numpy"])),
    (SOFTWARE, "packages", _set("components", to=lambda all_: [*all_, {**all_[2], "name": "more"}])),
    (SOFTWARE, "system libraries", _part("opt/python/lib/libz.so.1", hashes=HASHES)),
    (SBOM, "model files", _part("tiny", components=[])),
    (
        SBOM,
        "base",
        _set("components", to=lambda all_: [*all_, {"type": "container", "name": "more", "hashes": HASHES}]),
    ),
    (PROVENANCE, "build type", _set("buildDefinition", "buildType", to="urn:other")),
    *(
        (PROVENANCE, name, _set("buildDefinition", "externalParameters", name, to="x"))
        for name in ("model", "version", "batch_fingerprint", "code", "decision")
    ),
    (PROVENANCE, "run key", _set("runDetails", "metadata", "invocationId", to="0" * 64)),
    (PROVENANCE, "site", _set("runDetails", "builder", "id", to="urn:insitu:site:elsewhere")),
    (PROVENANCE, "base", _material("base", WRONG)),
    (PROVENANCE, "batch", _material("batch", WRONG)),
    (PROVENANCE, "code", _material("code", WRONG)),
    (PROVENANCE, "git commit", _material("source", {"gitCommit": "0" * 40})),
    (PROVENANCE, "model file model.onnx", _material("model.onnx", WRONG)),
    (DECISION, "digest of the record", _set("digest", to="sha256:" + "0" * 64)),
    (DECISION, "digest of the record", _set("envelope", to=lambda text: text.replace("insitu", "nobody"))),
    (MODEL, "method", _set("serialization", "method", to="shards")),
    (MODEL, "files of the model", _set("resources", 0, "digest", to="0" * 64)),
    (MODEL, "files of the model", _set("resources", to=lambda there: there[1:])),
    (MODEL, "files of the model", _set("resources", to=lambda there: [*there, {**there[0], "name": "more"}])),
    (MODEL, "subject", lambda statement: statement["subject"][0].update(digest=WRONG)),
]


@pytest.mark.parametrize(
    ("kind", "what", "change"), UNTRUE, ids=[f"{CALLED[k]}-{w}-{n}" for n, (k, w, _) in enumerate(UNTRUE)]
)
def test_what_the_site_itself_has_signed_must_be_true_of_this_image(
    ours: Attested, kind: str, what: str, change: Callable[[dict[str, Any]], None]
) -> None:
    ours.resign(kind, change)
    assert f"the {CALLED[kind]} " in (said := refusal(ours))
    assert f"does not fit the image: {what}\n" in said


def put_decision(made: Attested, envelope: bytes) -> None:
    told = {"digest": f"sha256:{sha256(envelope).hexdigest()}", "envelope": envelope.decode()}
    made.resign(DECISION, lambda statement: statement.update(predicate=told))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model": "other"}, "model"),
        ({"run_key": "0" * 64}, "run_key"),
        ({"batch": "0" * 64}, "batch_fingerprint"),
        ({"verdict": "reject"}, "decision"),
        ({"kind": "approval", "who": "mallory"}, "decision"),
    ],
)
def test_a_decision_about_something_else_is_refused(ours: Attested, changes: dict[str, Any], what: str) -> None:
    put_decision(ours, enveloped(record_of(**changes)))
    assert f"the decision ({ours.attached[DECISION][0][:19]}) does not fit the image: {what}\n" in refusal(ours)


def test_a_decision_that_a_stranger_has_signed_is_refused(ours: Attested) -> None:
    put_decision(ours, enveloped(ours.record, STRANGER))
    assert "holds a record that is not trusted" in refusal(ours)
    put_decision(ours, b"{}")
    assert "holds a record that is not trusted: what should be signed is no DSSE envelope" in refusal(ours)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "the gate promoted it"),
        ({"kind": "approval", "who": "ada", "verdict": "inconclusive"}, "approval by ada"),
        ({"kind": "override", "who": "ada", "verdict": "reject", "expires": "2027-01-01T00:00:00+00:00"}, "override"),
    ],
)
def test_a_promotion_an_approval_or_an_override_in_time_allows(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    assert any(said in line for line in verified(tiny_image(tmp_path, record=record_of(**changes))).proved)


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "reject"},
        {"verdict": "inconclusive"},
        {"kind": "question", "expires": "2027-01-01T00:00:00+00:00"},
        {"kind": "rejection", "who": "ada"},
        {"kind": "expiry"},
    ],
)
def test_nothing_else_allows(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert "no decision allows the image" in refusal(tiny_image(tmp_path, record=record_of(**changes)))


def test_an_override_that_has_ended_let_the_image_be_published_and_lets_nobody_use_it_now(tmp_path: Path) -> None:
    ended = "2026-11-30T11:59:59+00:00"
    record = record_of(kind="override", who="ada", verdict="reject", expires=ended)
    found = verified(tiny_image(tmp_path, record=record))
    assert any(f"until {ended}" in line and "counted when" in line for line in found.proved)
    assert any("may be used now" in line and ended in line for line in found.unproved)
    assert found.ended == ended


def test_a_promotion_where_the_settings_ask_for_a_person_is_told(tmp_path: Path) -> None:
    asks = record_of(settings={"gate": {"approval": "always"}})
    assert any("that a person approved" in line for line in verified(tiny_image(tmp_path, record=asks)).unproved)


def blobs_of(made: Attested) -> list[str]:
    """Every blob of the image and of what refers to it, but the empty configuration."""
    digests = [made.digest]
    for manifest in (made.digest, *(one.digest for one in made.images.referrers(made.digest))):
        found = made.images.resolve(manifest)
        assert found
        config, layers = parts_of(found[1])
        digests += [manifest, *(one.digest for one in (config, *layers) if one.size_bytes > 2)]
    return list(dict.fromkeys(digests))


def test_one_other_bit_in_any_file_is_refused_and_so_is_a_file_that_is_gone(first: Attested, tmp_path: Path) -> None:
    names = blobs_of(first)
    assert len(names) == 6 + 2 * 5
    for number, digest in enumerate(names):
        made = first.copy(tmp_path / str(number))
        path = made.images.local_blob(digest)
        assert path
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(InsituError):
            verified(made)
        path.unlink()
        with pytest.raises(InsituError):
            verified(made)


def test_layers_that_changed_places_are_refused(ours: Attested) -> None:
    _, environment, _, model = describe(ours.images, ours.digest).layers
    one, other = (ours.images.local_blob(layer.digest) for layer in (environment, model))
    assert one
    assert other
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert f"{environment.digest} is not what was read" in refusal(ours)


def test_an_image_with_the_attestations_of_another_is_refused(
    first: Attested, second: Attested, tmp_path: Path
) -> None:
    class Swapped(LayoutImages):
        def referrers(self, digest: str) -> Any:
            return super().referrers(second.digest)

    both = first.copy(tmp_path)
    second.copy(tmp_path)
    first.copy(tmp_path)  # its index; the blobs of both are there
    for one in second.images.referrers(second.digest):
        found = second.images.resolve(one.digest)
        assert found
        both.images.attach(second.digest, found)
    said = refusal(replace(both, images=Swapped(tmp_path)))
    assert "refers to another image" in said


def test_a_copy_of_the_image_without_its_attestations_says_what_is_missing(first: Attested, tmp_path: Path) -> None:
    bare = first.copy(tmp_path)
    for kind in REQUIRED:
        bare.drop(kind)
    assert "has no SBOM, no provenance, no decision, no model signature by a trusted key" in refusal(bare)


def test_no_key_and_another_key_trust_nothing(first: Attested) -> None:
    for keys in ((), (STRANGER.public,)):
        with pytest.raises(SignatureRefused, match=KEY.public.id[:12]):
            verify_image(first.images, first.digest, keys)


def test_what_others_attach_is_listed_and_neither_trusted_nor_an_error(ours: Attested) -> None:
    ours.attach(SBOM, json.dumps(ours.attached[SBOM][1] | {"more": 1}).encode())  # the same, once more
    attach_statements(ours.images, ours.image, [Statement("https://others.example/v1", "x", "0" * 64, {})], STRANGER)
    ours.attach("https://others.example/v2", b"no bundle")
    found = verified(ours)
    assert [line.partition(" sha256")[0] for line in sorted(found.others)] == [
        "https://others.example/v1",
        "https://others.example/v2",
    ]


def test_a_statement_of_another_kind_that_our_key_has_signed_must_be_about_this_image(ours: Attested) -> None:
    attach_statements(ours.images, ours.image, [Statement(RESIDENCY, "tiny", "0" * 64, {})], KEY)
    assert "the residency statement" in refusal(ours)


def test_a_manifest_that_says_something_else_than_the_configuration_is_refused(first: Attested, tmp_path: Path) -> None:
    found = first.images.resolve(first.digest)
    assert found
    content = found[1].replace(b'"io.insitu.version":"1"', b'"io.insitu.version":"2"')
    assert content != found[1]
    layout = first.copy(tmp_path).images
    image = Descriptor(found[0].media_type, f"sha256:{sha256(content).hexdigest()}", len(content))
    layout.put_manifest(image, content)
    made = Attested(layout, image, first.record)
    attach_statements(layout, image, statements_of(made, enveloped(first.record)), KEY)
    assert "the image contradicts itself about io.insitu.version" in refusal(made)


@pytest.mark.registry
def test_attestations_go_with_the_image_to_a_registry_and_are_verified_there(
    first: Attested, registry_host: str, tmp_path: Path
) -> None:
    target = RegistryImages(registry_host, "attested")
    publish_image(first.digest, first.images, target, ["1"])
    there = verify_image(target, first.digest, TRUSTED, now=NOON)
    assert replace(there, image=first.images.name) == verified(first)
    next_one = tiny_image(first.copy(tmp_path).images.root, version="2")
    sent = publish_image(next_one.digest, next_one.images, target, ["2"]).sent
    new_ones = [one for one in sent if one.what == "attestation layer"]
    assert len(new_ones) == len(REQUIRED), "the bill of the software is there"
    assert verify_image(target, next_one.digest, TRUSTED, now=NOON).facts["version"] == "2"


@pytest.mark.parametrize("kind", [SBOM, PROVENANCE, DECISION])
def test_openssl_verifies_what_is_attached_and_trusts_no_stranger(first: Attested, tmp_path: Path, kind: str) -> None:
    envelope = first.attached[kind][1]["dsseEnvelope"]
    of_type, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    message = b"DSSEv1 %d %s %d %s" % (len(of_type), of_type, len(payload), payload)  # as the standard has it
    (tmp_path / "message").write_bytes(message)
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-in", "message", "-sigfile", "signature", "-pubin"]
    for key, code in ((KEY, 0), (STRANGER, 1)):
        (tmp_path / "key.pub").write_bytes(key.public.pem)
        done = subprocess.run([*command, "-inkey", "key.pub"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr


@pytest.mark.registry
@pytest.mark.skipif(
    not shutil.which("cosign"),
    reason="cosign is not installed: neither Debian 12 nor PyPI has it; openssl verifies the same signatures",
)
@pytest.mark.parametrize("kind", ["slsaprovenance1", "cyclonedx", DECISION])
def test_cosign_verifies_what_is_attached_and_trusts_no_stranger(
    first: Attested, registry_host: str, tmp_path: Path, kind: str
) -> None:
    publish_image(first.digest, first.images, RegistryImages(registry_host, "for-cosign"), ["1"])
    command = ["cosign", "verify-attestation", "--insecure-ignore-tlog=true", "--allow-http-registry", "--type", kind]
    for key, code in ((KEY, 0), (STRANGER, 1)):
        (tmp_path / "key.pub").write_bytes(key.public.pem)
        image = f"{registry_host}/for-cosign@{first.digest}"
        done = subprocess.run([*command, "--key", str(tmp_path / "key.pub"), image], capture_output=True, text=True)
        assert done.returncode == code, done.stderr


@pytest.mark.parametrize("kind", [SBOM, SOFTWARE])
def test_the_bill_of_materials_is_a_cyclonedx_document(first: Attested, kind: str) -> None:
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    schemas = json.loads((Path(__file__).parent / "cyclonedx-1.6.schema.json").read_text())
    known = [
        (f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json", one) for name, one in schemas["others"].items()
    ]
    registry = Registry().with_resources((uri, Resource(one, DRAFT7)) for uri, one in known)  # type: ignore[arg-type]
    document = first.statement(kind)["predicate"]
    validator = Draft7Validator(schemas["bom"], registry=registry)
    assert [error.message for error in validator.iter_errors(document)] == []
    document["components"][0]["type"] = "song"
    assert list(validator.iter_errors(document)), "the schema sees what is wrong"
