"""Words that may leave: those on the list, in their own form, and nothing else."""

from __future__ import annotations

import json

import pytest

from insitu.errors import EgressRefused
from insitu.residency.rules import require_annotations, require_facts, require_labels, require_tags

HEX, DIGEST = "a" * 64, f"sha256:{'a' * 64}"
METRICS = frozenset({"roc_auc", "log_loss"})
ROW = "Jane Doe, 1931-04-02, E11.9"
TAGS = {
    "insitu.batch": HEX,
    "insitu.code": HEX,
    "insitu.site": "ward-7",
    "insitu.job": "flights-1f2e",
    "insitu.verdict": "promote",
    "insitu.residency": "clear",
    "insitu.image": DIGEST,
    "insitu.reference": "registry.example:5000/flights:7",
    "insitu.decision": DIGEST,
    "insitu.decision.kind": "gate",
    "insitu.decision.expires": "2027-01-01",
    "insitu.approver": "Ann Müller-Lüdenscheidt",
    "metric.roc_auc": "0.6452",
    "metric.log_loss": "nan",
}
LABELS = {
    "io.insitu.model": "flights",
    "io.insitu.version": "7",
    "io.insitu.decision": DIGEST,
    "org.opencontainers.image.version": "7",
    "org.opencontainers.image.base.name": "docker.io/library/python:3.12-slim",
    "maintainer": "whoever made the base",
}


def test_what_is_on_the_list_may_leave() -> None:
    require_tags(TAGS, METRICS, "tags")
    require_labels(LABELS, "labels")
    require_facts(json.dumps({"model": "flights", "run_key": HEX, "task": "regression"}), "facts")


@pytest.mark.parametrize("name", [name for name in TAGS if name not in ("insitu.reference", "insitu.approver")])
@pytest.mark.parametrize("value", [ROW, "0.64521873", "month=03/flights.parquet", ""])
def test_a_tag_holds_nothing_but_its_own_form(name: str, value: str) -> None:
    with pytest.raises(EgressRefused) as refused:
        require_tags({**TAGS, name: value}, METRICS, "tags")
    assert not value or value not in refused.value.render()


@pytest.mark.parametrize("name", ["insitu.note", "mlflow.note.content", "metric.mean_age", "metric.roc_auc.month=03"])
def test_a_tag_that_is_not_on_the_list_is_refused_without_its_value(name: str) -> None:
    with pytest.raises(EgressRefused, match="nothing was sent") as refused:
        require_tags({**TAGS, name: ROW}, METRICS, "tags")
    assert ROW not in refused.value.render()


@pytest.mark.parametrize("value", ["0.64521873", "123456", "1.00001", "many"])
def test_a_metric_has_four_significant_digits(value: str) -> None:
    with pytest.raises(EgressRefused):
        require_tags({"metric.roc_auc": value}, METRICS, "tags")


@pytest.mark.parametrize("label", ["io.insitu.note", "io.insitu.model", "io.insitu.version"])
def test_a_label_of_ours_is_on_the_list_and_in_its_form(label: str) -> None:
    for require in (require_labels, require_annotations):
        with pytest.raises(EgressRefused):
            require({label: ROW}, "labels")


@pytest.mark.parametrize("name", ["org.opencontainers.image.description", "org.opencontainers.image.version", "note"])
def test_an_annotation_is_ours_and_so_on_the_list_while_a_base_has_labels_of_its_own(name: str) -> None:
    require_labels({name: "Debian GNU/Linux 12"}, "labels")
    with pytest.raises(EgressRefused):
        require_annotations({name: "Debian GNU/Linux 12"}, "annotations")


def test_an_image_says_no_more_of_itself_than_is_listed() -> None:
    with pytest.raises(EgressRefused, match="'note'"):
        require_facts(json.dumps({"model": "flights", "note": ROW}), "facts")
