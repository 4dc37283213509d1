"""What may be done with repositories, tags and manifests of the container registry: its own interface, /acr/v1."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import unquote

from insitu.twin.acr_tokens import refused
from insitu.twin.estate import Estate
from insitu.twin.machine_learning import Document

_PATH = re.compile(r"/acr/v1/(?P<name>.+?)(/_(?P<kind>tags|manifests)(/(?P<reference>[^/]+))?)?")
_FREE = {"deleteEnabled": True, "writeEnabled": True, "listEnabled": True, "readEnabled": True}
_DISALLOWED = (
    "The operation is disallowed on this registry, repository or image. View troubleshooting steps at "
    "https://aka.ms/acr/faq/#why-does-my-pull-or-push-request-fail-with-disallowed-operation"
)


class Locks:
    """Repositories, tags and manifests with their attributes, by `NAME`, `NAME:TAG` and `NAME@DIGEST`."""

    def __init__(self, estate: Estate) -> None:
        self._host, self._shelf = estate.names.registry_host, estate.shelf("acr")

    def parse(self, path: str) -> tuple[str, str]:
        """Return repository and what is asked of it: "" itself, `:` its tags, `@` its manifests, `:TAG`, `@DIGEST`."""
        if path == "/acr/v1/_catalog":
            return "", ""
        match = _PATH.fullmatch(path)
        if match is None:
            raise refused(404, "NAME_UNKNOWN", "repository name not known to registry")
        mark = {None: "", "tags": ":", "manifests": "@"}[match["kind"]]
        return match["name"], mark + unquote(match["reference"] or "")

    def note(self, name: str, reference: str, digest: str, media_type: str) -> None:
        """Write down that a manifest was stored, and perhaps tagged."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        with self._shelf.changing() as entries:
            for key in dict.fromkeys((name, f"{name}@{digest}", _key(name, reference))):
                earlier = entries.get(key) or {"createdTime": now, "changeableAttributes": dict(_FREE)}
                entries[key] = {**earlier, "lastUpdateTime": now, "digest": digest, "mediaType": media_type}

    def forget(self, name: str, reference: str) -> None:
        """Write down that a tag is gone, or a manifest with its tags."""
        with self._shelf.changing() as entries:
            tags = [
                key for key, entry in entries.items() if key.startswith(f"{name}:") and entry["digest"] == reference
            ]
            for key in (_key(name, reference), *tags):
                entries.pop(key, None)

    def require(self, name: str, reference: str, method: str) -> None:
        """Raise `Refused` when a lock is in the way of *method*."""
        wanted = {"PUT": ("writeEnabled",), "DELETE": ("writeEnabled", "deleteEnabled")}.get(method, ("readEnabled",))
        for key in (name, _key(name, reference)):
            attributes = (self._shelf.get(key) or {}).get("changeableAttributes", _FREE)
            if not all(attributes[word] for word in wanted):
                raise refused(405, "REGISTRY_DISALLOWED_OPERATION", _DISALLOWED)

    def require_tag(self, name: str, place: str) -> None:
        """Raise `Refused` unless there is such a tag, which may be removed."""
        if not place.startswith(":") or place == ":":
            raise refused(405, "UNSUPPORTED", "The operation is unsupported.")
        if self._shelf.get(name + place) is None:
            raise self._unknown(place)
        self.require(name, place[1:], "DELETE")

    def change(self, name: str, place: str, told: Document) -> None:
        """Lock or unlock."""
        unknown = set(told) - set(_FREE)
        if unknown or not told or not all(isinstance(value, bool) for value in told.values()):
            raise refused(400, "INVALID", "the body holds deleteEnabled, writeEnabled, listEnabled, readEnabled")
        with self._shelf.changing() as entries:
            if name + place not in entries or place in (":", "@"):
                raise self._unknown(place)
            entry = entries[name + place]
            entry["changeableAttributes"] = {**entry["changeableAttributes"], **told}

    def shown(self, name: str, place: str) -> Document:
        """Return what is known of a repository, of its tags or manifests, or of one of them."""
        if not name:
            return {"repositories": [key for key in self._shelf.names() if not re.search("[:@]", key)]}
        head = {"registry": self._host, "imageName": name}
        if place in (":", "@"):
            kind = "tags" if place == ":" else "manifests"
            return {**head, kind: [self._entry(key) for key in self._shelf.names(name + place)]}
        if self._shelf.get(name + place) is None:
            raise self._unknown(place)
        entry = self._entry(name + place)
        if not place:
            counts = {kind: len(self._shelf.names(name + mark)) for kind, mark in (("tag", ":"), ("manifest", "@"))}
            return {**head, **entry, "tagCount": counts["tag"], "manifestCount": counts["manifest"]}
        return {**head, "tag" if place[0] == ":" else "manifest": entry}

    def _entry(self, key: str) -> Document:
        entry: Document = self._shelf.get(key)
        name, _, tag = key.partition(":") if "@" not in key else (key.partition("@")[0], "", "")
        if tag:
            return {"name": tag, "signed": False, **{k: v for k, v in entry.items() if k != "mediaType"}}
        if "@" in key:
            tags = [k.partition(":")[2] for k in self._shelf.names(name + ":")]
            return {**entry, "tags": [t for t in tags if self._shelf.get(f"{name}:{t}")["digest"] == entry["digest"]]}
        return {k: v for k, v in entry.items() if k not in ("digest", "mediaType")}

    def _unknown(self, place: str) -> Exception:
        code = {"": "NAME_UNKNOWN", ":": "TAG_UNKNOWN", "@": "MANIFEST_UNKNOWN"}[place[:1]]
        return refused(404, code, "the registry does not know it")


def _key(name: str, reference: str) -> str:
    return f"{name}{'@' if reference.startswith('sha256:') else ':'}{reference}"
