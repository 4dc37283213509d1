"""A waiver counts while it is as it was signed, its time is not up, and the site lets its giver decide."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_images import small_image

from insitu.acts import Act
from insitu.adapters.local.blobs import FolderBlobs
from insitu.adapters.local.images import LayoutImages
from insitu.batch import Blob
from insitu.egress import EGRESS, HEAD, Door, sign_ledger
from insitu.errors import LeakFound, UsageError
from insitu.images.transfer import Sent
from insitu.journal import Journal
from insitu.residency.waivers import Find, Scope
from insitu.signing import Keys, SigningKey
from insitu.waivers import PAYLOAD_TYPE, WAIVED, Known, Waivers

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=1)
ACT = Act("waiver", "Ada", "the data is public")
SCOPE = Scope("records", file="model/model.pkl", columns=("age", "income"))
FIND = Find("rows", "model/model.pkl!array", "KNeighborsClassifier", ("age",), 100)


@pytest.fixture
def waivers(tmp_path: Path) -> Waivers:
    (tmp_path / "state").mkdir()
    key = SigningKey.from_pem(SigningKey.new_pem().encode())
    assert key
    keys = Keys(own=lambda: key, trusted=lambda: [key.public])
    return Waivers(FolderBlobs(tmp_path / "state"), keys, "local", "tiny", allowed=True)


def waived(known: Known) -> list[dict[str, object]]:
    return [{**FIND.__dict__, "waiver": known.told()}]


def test_a_waiver_counts_until_it_ends(waivers: Waivers) -> None:
    given = waivers.give(SCOPE, ACT, LATER, NOW)
    assert [one.waiver for one in waivers.standing(NOW)] == [given.waiver]
    assert waivers.settled(waived(given), NOW)[0]["waiver"] == given.told()
    with pytest.raises(LeakFound, match="not waived any more") as refused:
        waivers.settled(waived(given), LATER)
    assert "waiver 1 by Ada" in str(refused.value.found)
    assert "ended" in str(refused.value.found)


def test_one_that_would_end_at_once_is_refused(waivers: Waivers) -> None:
    with pytest.raises(UsageError):
        waivers.give(SCOPE, ACT, NOW, NOW)


def test_one_that_was_altered_is_as_if_it_were_not_there(waivers: Waivers) -> None:
    given = waivers.give(SCOPE, ACT, LATER, NOW)
    envelope = json.loads(waivers.state.read(given.name))
    payload = envelope["payload"]
    forged = json.dumps(envelope | {"payload": payload[:40] + "AAAA" + payload[44:]}).encode()
    waivers.state.replace(given.name, forged, etag=waivers.state.stat(given.name).etag)
    assert [one.status for one in waivers.all(NOW)] == ["altered"]
    with pytest.raises(LeakFound, match="not waived any more"):
        waivers.settled(waived(given), NOW)


def test_one_of_another_model_or_site_or_number_does_not_count_here(waivers: Waivers) -> None:
    given = waivers.give(SCOPE, ACT, LATER, NOW)
    envelope = waivers.state.read(given.name)
    waivers.state.create("waivers/other/1.json", envelope)
    waivers.state.create("waivers/tiny/2.json", envelope)
    for elsewhere in (replace(waivers, model="other"), replace(waivers, site="ward-7")):
        assert {one.status for one in elsewhere.all(NOW)} == {"altered"}
    assert [one.status for one in waivers.all(NOW)] == ["counts", "altered"]


def test_one_that_was_taken_back_does_not_come_back(waivers: Waivers) -> None:
    given = waivers.give(SCOPE, ACT, LATER, NOW)
    for _ in range(2):
        assert waivers.revoke(1, Act("revocation", "Bob", "no"), NOW).status == "revoked"
    assert waivers.standing(NOW) == []
    with pytest.raises(LeakFound, match="not waived any more"):
        waivers.settled(waived(given), NOW)
    with pytest.raises(UsageError, match="no waiver 2"):
        waivers.revoke(2, Act("revocation", "Bob", "no"), NOW)


def test_no_file_that_is_taken_away_lets_one_that_was_taken_back_count_again(waivers: Waivers) -> None:
    given = waivers.give(SCOPE, ACT, LATER, NOW)
    taken_back = waivers.revoke(1, Act("revocation", "Bob", "no"), NOW)
    assert (taken_back.digest, taken_back.waiver) == (given.digest, given.waiver)  # an audit finds it by that
    names = list(waivers.state.names("waivers/"))
    envelope = waivers.state.read(given.name)
    waivers.state.create("waivers/tiny/2.json", envelope)
    assert [one.status for one in waivers.all(NOW)] == ["revoked", "altered"]
    for name in names:
        waivers.state.delete(name, etag=waivers.state.stat(name).etag)
        assert waivers.standing(NOW) == []


def test_one_that_an_earlier_insitu_took_back_does_not_count(waivers: Waivers) -> None:
    given = waivers.give(SCOPE, ACT, LATER, NOW)
    waivers.state.create(beside := "waivers/tiny/1-revoked.json", b"{}")
    assert [(one.name, one.status) for one in waivers.all(NOW)] == [(given.name, "revoked")]
    with pytest.raises(LeakFound, match="revoked"):
        waivers.settled(waived(given), NOW)
    waivers.revoke(1, Act("revocation", "Bob", "no"), NOW)  # from now on by what is written over it
    waivers.state.delete(beside, etag=waivers.state.stat(beside).etag)
    assert [one.status for one in waivers.all(NOW)] == ["revoked"]


@pytest.mark.parametrize("is_faster", [True, False])
def test_of_two_who_take_it_back_at_once_one_does(waivers: Waivers, is_faster: bool) -> None:
    given, bob = waivers.give(SCOPE, ACT, LATER, NOW), Act("revocation", "Bob", "no")

    class Contended(FolderBlobs):
        """Bob takes it back just before somebody else asks for its version, or just after."""

        def stat(self, name: str) -> Blob:
            if is_faster:
                waivers.revoke(1, bob, NOW)
            found = super().stat(name)
            if not is_faster:
                waivers.revoke(1, bob, NOW)
            return found

    assert isinstance(waivers.state, FolderBlobs)
    contended = replace(waivers, state=Contended(waivers.state.root))
    known = contended.revoke(1, Act("revocation", "Cem", "no"), NOW)
    assert (known.status, known.digest, known.waiver) == ("revoked", given.digest, given.waiver)
    envelope = json.loads(base64.b64decode(json.loads(waivers.state.read(given.name))["payload"]))
    assert (envelope["who"], json.loads(envelope["waiver"])["payloadType"]) == ("Bob", PAYLOAD_TYPE)


def test_a_file_of_nonsense_stops_nothing(waivers: Waivers) -> None:
    waivers.give(SCOPE, ACT, LATER, NOW)
    waivers.state.create("waivers/tiny/2.json", b"[" * 200_000)
    assert [one.status for one in waivers.all(NOW)] == ["counts", "altered"]


def test_one_that_cannot_be_read_is_taken_back_as_well(waivers: Waivers) -> None:
    given = waivers.give(SCOPE, ACT, LATER, NOW)
    waivers.state.replace(given.name, b"\xff", etag=waivers.state.stat(given.name).etag)
    assert waivers.revoke(1, Act("revocation", "Bob", "no"), NOW).status == "revoked"


@pytest.mark.parametrize("changes", [{"allowed": False}, {"approvers": ("Bob",)}])
def test_what_the_site_does_not_allow_any_more_does_not_count(waivers: Waivers, changes: dict[str, object]) -> None:
    waivers.give(SCOPE, ACT, LATER, NOW)
    assert [one.status for one in replace(waivers, **changes).all(NOW)] == ["not allowed"]  # type: ignore[arg-type]


def test_another_waiver_over_the_same_takes_the_place_of_one_that_ended(waivers: Waivers) -> None:
    given = waivers.give(SCOPE, ACT, LATER, NOW)
    narrow = waivers.give(Scope("records", columns=("income",)), ACT, LATER + timedelta(days=1), NOW)
    with pytest.raises(LeakFound):
        waivers.settled(waived(given), LATER)
    anew = waivers.give(SCOPE, ACT, LATER + timedelta(days=1), LATER)
    assert [narrow.told()["number"], anew.told()["number"]] == [2, 3]
    assert waivers.settled(waived(given), LATER)[0]["waiver"] == anew.told()


def test_the_door_lets_a_file_out_by_a_waiver_that_counts_and_by_no_other(waivers: Waivers) -> None:
    given = waivers.give(SCOPE, ACT, LATER, NOW)
    door = Door(Journal(waivers.state, "tiny", "f" * 64), waivers)
    sent, scan = Sent("model file model.pkl", "registry", 5, "a" * 64), {"verdict": "waived", "waived": waived(given)}
    door.file(sent, scan)
    assert "waived" in door.journal.entry(EGRESS)[0]["clearance"]
    waivers.revoke(1, Act("revocation", "Bob", "no"), NOW)
    with pytest.raises(LeakFound):
        door.file(replace(sent, sha256="b" * 64), scan)
    assert len(door.journal.entry(EGRESS)) == 1


def test_another_waiver_takes_over_no_more_than_it_lets_pass_in_all(waivers: Waivers) -> None:
    one, two = (waivers.give(Scope("records", file=name), ACT, LATER, NOW) for name in ("a", "b"))
    found = [{**waived(known)[0], "file": name} for known, name in ((one, "a"), (two, "b"))]
    for number in (1, 2):
        waivers.revoke(number, Act("revocation", "Bob", "no"), NOW)
    waivers.give(Scope("records", columns=("age",), most=150), ACT, LATER, NOW)
    assert len(waivers.settled(found[:1], NOW)) == 1
    with pytest.raises(LeakFound, match="not waived any more"):
        waivers.settled(found, NOW)
    waivers.give(Scope("records", columns=("age",), most=200), ACT, LATER, NOW)
    assert len(waivers.settled(found, NOW)) == 2


def test_a_published_image_goes_on_while_its_waiver_counts(waivers: Waivers, tmp_path: Path) -> None:
    door = Door(Journal(waivers.state, "tiny", "f" * 64), waivers)
    images, digest = small_image(tmp_path / "images", "1")
    assert isinstance(images, LayoutImages)
    door.journal.keep(WAIVED, waived(waivers.give(SCOPE, ACT, LATER, NOW)))
    door.published("bundle", "here", images, digest)
    waivers.revoke(1, Act("revocation", "Bob", "no"), NOW)
    with pytest.raises(LeakFound, match="not waived any more"):
        door.published("bundle", "there", images, digest)
    assert [one["destination"] for one in door.journal.entry(EGRESS)] == ["here"]


def test_a_ledger_whose_signature_was_taken_away_is_not_signed_anew(waivers: Waivers) -> None:
    door = Door(journal := Journal(waivers.state, "tiny", "f" * 64), waivers)
    for size in (1, 2):
        door.file(Sent("model file m", "registry", size, str(size) * 64), None)
    sign_ledger(journal, waivers.keys)
    journal.keep("record", {})
    waivers.state.delete(journal.name(HEAD), etag=waivers.state.stat(journal.name(HEAD)).etag)
    journal.keep(EGRESS, journal.entry(EGRESS)[:1])
    sign_ledger(journal, waivers.keys)
    assert journal.entry(HEAD) is None
