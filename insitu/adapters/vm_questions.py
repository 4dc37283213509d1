"""What is asked of the VM itself: one shell script over one connection, answered in lines.

The script needs a POSIX shell and what every Linux has; the blob endpoint is asked by the VM's python3, which Azure's
VM agent needs, too. It reads the secret that lies on the VM and shows nothing of it. It changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SCRIPT = """
main() {
  LC_ALL=C; export LC_ALL
  INSITU_NOW=$(date +%s); export INSITU_NOW
  tell now "$INSITU_NOW"
  tell memory_kb "$(awk '/^MemAvailable:/ {print $2}' /proc/meminfo)"
  tell python "$(within python3 -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)"
  tell disk "$(space "${HOME:-/}")"
  docker_answer & gpu_answer & blob_answers & wait
  tell end 0
}
tell() { printf 'insitu %s %s\\n' "$1" "$2"; }
line() { tr '\\n' ' ' | cut -c 1-300; }
within() {
  if command -v timeout >/dev/null 2>&1; then timeout -k 1 __LIMIT__ "$@"; else "$@"; fi
}
space() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 {print $4, $6}'; }
docker_answer() {
  __DOCKER__ || return 0
  command -v docker >/dev/null 2>&1 || { tell docker "127 "; return 0; }
  answer=$(within docker info --format '{{.ServerVersion}} {{.DockerRootDir}}' 2>&1 </dev/null); code=$?
  tell docker "$code $(printf '%s' "$answer" | line)"
  [ "$code" -ne 0 ] || tell disk "$(space "${answer##* }")"
}
gpu_answer() {
  __GPU__ || return 0
  command -v nvidia-smi >/dev/null 2>&1 || { tell gpu "127 "; return 0; }
  answer=$(within nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>&1 </dev/null); code=$?
  tell gpu "$code $(printf '%s' "$answer" | line)"
}
blob_answers() {
  within python3 - 2>/dev/null <<'INSITU_BLOBS'
__BLOBS__
INSITU_BLOBS
}
main
"""

_BLOBS = """
import base64, hashlib, hmac, json, os, re, ssl, time
from email.utils import formatdate, parsedate_to_datetime
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

BEGAN = time.time()
NOW = float(os.environ.get("INSITU_NOW") or BEGAN)

def headers_of(store, path, query):
    headers = {"x-ms-version": store["version"], "x-ms-date": formatdate(usegmt=True)}
    if "comp" not in query:
        headers["x-ms-range"] = "bytes=0-0"
    if store["signed"]:
        return headers
    lines = ["%s:%s" % pair for pair in sorted(headers.items())]
    lines.append("/" + store["account"] + path)
    lines += ["%s:%s" % pair for pair in sorted(query.items())]
    text = "GET" + chr(10) * 12 + chr(10).join(lines)
    digest = hmac.new(base64.b64decode(store["secret"]), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = "SharedKey %s:%s" % (store["account"], base64.b64encode(digest).decode())
    return headers

def ask(store, name, query):
    url = store["url"] + ("/" + quote(name, safe="~/") if name else "")
    pairs = ["%s=%s" % pair for pair in query.items()] + ([store["secret"]] if store["signed"] else [])
    headers = headers_of(store, urlsplit(url).path, query)
    request = Request(url + ("?" + "&".join(pairs) if pairs else ""), headers=headers)
    ca = store["ca"] or os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or None
    context = ssl.create_default_context(cafile=ca) if url.startswith("https") else None
    with urlopen(request, timeout=__LIMIT__, context=context) as answer:
        return answer.headers, answer.read(1 << 20).decode("utf-8", "replace")

def listing(store):
    query = {"comp": "list", "maxresults": "1", "restype": "container"}
    try:
        return ask(store, "", query)
    except HTTPError as exc:
        if exc.code < 500:
            raise
        # One name can break the listing of all: then it is enough that names which nobody has can be listed.
        return ask(store, "", dict(query, prefix="insitu-does-not-look-here"))

def look(store):
    try:
        with open(store["file"]) as file:
            store["secret"] = file.read().strip().lstrip("?")
        fits = "sig=" in store["secret"] if store["signed"] else base64.b64decode(store["secret"], validate=True)
    except ValueError:
        fits = False
    except Exception as exc:
        return {"problem": "secret", "error": type(exc).__name__}
    if not fits:
        kind = "signature" if store["signed"] else "key of an account"
        return {"problem": "secret", "error": "it holds no " + kind}
    found = {"problem": "", "error": ""}
    try:
        headers, page = listing(store)
        found["skew_s"] = skew(headers)
        if "<EnumerationResults" not in page:
            found.update(problem="silence", error="an answer that is no blob service's")
        name = re.search("<Name>([^<&]*)</Name>", page)
        if name:
            ask(store, name.group(1), {})
    except HTTPError as exc:
        code = re.sub("[^A-Za-z0-9]", "", exc.headers.get("x-ms-error-code") or "")
        found.update(problem="status", error=("%d %s" % (exc.code, code)).strip(), skew_s=skew(exc.headers))
    except Exception as exc:
        reason = getattr(exc, "reason", exc)
        found.update(problem="silence", error=getattr(reason, "verify_message", "") or type(reason).__name__)
    return found

def skew(headers):
    date = headers.get("Date")
    return NOW + time.time() - BEGAN - parsedate_to_datetime(date).timestamp() if date else None

for store in json.loads(__STORES__):
    print("insitu blob " + json.dumps(dict(look(store), what=store["what"])), flush=True)
"""


@dataclass(frozen=True)
class Store:
    """A container that the VM shall read, and where its own secret is.

    Attributes:
        what: What people call it, e.g. `data flights`.
        url: Address of the container.
        signed: Whether the secret is a signature; else it is the account's key.
        file: The secret's path on the VM.
        ca: Path on the VM of the authorities to trust; None: the VM's.
    """

    what: str
    url: str
    account: str
    version: str
    signed: bool
    file: str
    ca: str | None = None


@dataclass(frozen=True)
class Answers:
    """What the VM told: the last text of every word, all of the disks, and each container's look."""

    told: Mapping[str, str]
    disks: Sequence[tuple[int, str]]
    blobs: Mapping[str, Mapping[str, Any]]

    @property
    def whole(self) -> bool:
        """Whether the script came to its end."""
        return "end" in self.told


def script(stores: Sequence[Store], *, docker: bool, gpu: bool, limit_s: int) -> bytes:
    """Return what `sh -s` shall read; each question may take *limit_s*."""
    blobs = _BLOBS.replace("__STORES__", repr(json.dumps([vars(store) for store in stores]))) if stores else ""
    parts = {"__BLOBS__": blobs, "__DOCKER__": str(docker).lower(), "__GPU__": str(gpu).lower()}
    text = _SCRIPT
    for mark, part in (parts | {"__LIMIT__": str(limit_s)}).items():
        text = text.replace(mark, part)
    return text.encode()


def read_answers(output: bytes) -> Answers:
    """Read the lines of ours among what the VM's shell printed."""
    told: dict[str, str] = {}
    disks: list[tuple[int, str]] = []
    blobs: dict[str, Mapping[str, Any]] = {}
    for line in output.decode(errors="replace").splitlines():
        ours, _, rest = line.partition(" ")
        word, _, text = rest.partition(" ")
        if ours != "insitu":
            continue
        if word == "disk":
            free, _, mount = text.partition(" ")
            disks += [(int(free) * 1024, mount)] if free.isdecimal() else []
        elif word == "blob":
            blob = _object(text)
            blobs[str(blob.get("what"))] = blob
        else:
            told[word] = text.strip()
    return Answers(told, disks, blobs)


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
