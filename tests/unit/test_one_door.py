"""Nothing goes to a registry or a cloud service but by the one door, or by somebody named here with a reason."""

from __future__ import annotations

import ast
from pathlib import Path

REPO = Path(__file__).parents[2]
SENDING = {"put_blob", "put_manifest", "attach", "register", "record", "tag", "publish_image", "create_or_update"}
"""What hands something to a registry or a service, by the names of the ports and of the SDKs."""

BY_THE_DOOR = {
    "insitu/release.py": {"record", "register", "tag", "publish_image"},
    "insitu/rollback.py": {"publish_image"},
    "insitu/adapters/azure/jobs.py": {"create_or_update"},
}
"""Whoever calls these asks the door first, in the same module."""

OTHERWISE = {
    "insitu/images/publish.py": "tells its caller of each part before it goes",
    "insitu/images/transfer.py": "the same",
    "insitu/images/attest.py": "writes into a layout, on site",
    "insitu/adapters/local/images.py": "is a folder, on site",
    "insitu/adapters/local/models.py": "is what sends",
    "insitu/adapters/azure/models.py": "is what sends",
    "insitu/adapters/azure/workspace_parts.py": "makes what a site stands on; knows no data and no model",
    "insitu/adapters/azure/endpoint.py": "names an image that is published, by its digest",
    "insitu/adapters/docker/target.py": "brings an image into a layout, on site",
    "insitu/adapters/local/serve.py": "the same",
    "insitu/scoring.py": "the same",
    "insitu/bundles.py": "brings in, to where a person says, what was verified",
}


def calls(file: Path) -> set[str]:
    """Return the sending names that a module calls."""
    named = (node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call))
    return {getattr(one, "attr", getattr(one, "id", "")) for one in named} & SENDING


def senders() -> dict[str, set[str]]:
    """Return every module of the product that sends, and how."""
    folders = ("insitu", "data_checks")  # what is above only calls the library, as its own contract says
    files = (file for folder in folders for file in (REPO / folder).rglob("*.py"))
    found = {file.relative_to(REPO).as_posix(): calls(file) for file in files}
    loop = "data_checks/child.py"  # `register` of a selector
    return {name: names for name, names in found.items() if names and name != loop and "/twin/" not in name}


def test_whoever_sends_is_known() -> None:
    assert set(senders()) == {*BY_THE_DOOR, *OTHERWISE}


def test_whoever_sends_what_a_run_made_does_so_by_the_door() -> None:
    for name, sends in BY_THE_DOOR.items():
        assert senders()[name] == sends, name
        text = (REPO / name).read_text()
        assert "door." in text, name
