"""What refers to what in the container registry: its referrers API, in front of a registry that has none."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from insitu.twin.acr_tokens import refused
from insitu.twin.estate import Estate

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Referrers:
    """Entries of manifests, by `NAME@SUBJECT` and their own digest."""

    def __init__(self, estate: Estate) -> None:
        self._shelf = estate.shelf("acr-referrers")

    def note(self, name: str, digest: str, media_type: str, manifest: bytes, answer: Response) -> None:
        """Write down what a stored manifest refers to, and say so in the answer."""
        value = json.loads(manifest)
        if "subject" not in value:
            return
        subject = value["subject"]["digest"]
        kind = value.get("artifactType") or value.get("config", {}).get("mediaType")
        entry = {"mediaType": media_type, "digest": digest, "size": len(manifest), "artifactType": kind}
        entry |= {"annotations": value["annotations"]} if "annotations" in value else {}
        with self._shelf.changing() as entries:
            entries.setdefault(f"{name}@{subject}", {})[digest] = entry
        answer.headers["OCI-Subject"] = subject

    def forget(self, name: str, digest: str) -> None:
        """Write down that a manifest is gone."""
        with self._shelf.changing() as entries:
            for key in [key for key in entries if key.startswith(f"{name}@")]:
                entries[key].pop(digest, None)

    def shown(self, request: Request, name: str, digest: str) -> Response:
        """Return the index of what refers to *digest*; raise `Refused` for what is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise refused(400, "DIGEST_INVALID", "the subject is to be a digest")
        wanted = parse_qs(request.url.query).get("artifactType", [])
        found = (self._shelf.get(f"{name}@{digest}") or {}).values()
        listed = [one for one in found if not wanted or one["artifactType"] in wanted]
        headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": listed}
        return Response(json.dumps(index), headers=headers, media_type=_INDEX_TYPE)
