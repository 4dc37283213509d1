"""Pages of a listing, as services write them."""

from __future__ import annotations

from datetime import UTC, datetime

from insitu.adapters.azure.listing import blobs_of, marker_of, names_of

PAGE = """\
<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a.blob.north.hub.example/" \
ContainerName="flights"><Prefix>a</Prefix><Blobs>\
<Blob><Name>a/&lt;b&gt; &amp;amp; &quot;c&quot;.parquet</Name><Properties>\
<Creation-Time>Wed, 01 Jan 2025 00:00:00 GMT</Creation-Time>\
<Last-Modified>Sun, 22 Nov 2026 23:42:05 GMT</Last-Modified>\
<Etag>0x8D7C2F1A2B3C4D5</Etag><Content-Length>12345678901</Content-Length><Content-Type /><Content-Encoding />\
<Content-MD5>XUFAKrxLKna5cZ2REBfFkg==</Content-MD5><BlobType>BlockBlob</BlobType></Properties></Blob>\
<Blob><Name>bell&#x7;\x07</Name><Properties><Last-Modified>Mon, 09 Feb 2026 01:02:03 GMT</Last-Modified>\
<Etag>"0x1"</Etag><Content-Length>0</Content-Length><Content-MD5 /></Properties></Blob>\
<Blob><Name Encoded="true">%EF%BF%BEa%20b</Name><Properties><Content-Length>1</Content-Length>\
<Etag>0x2</Etag><Last-Modified>Mon, 09 Feb 2026 01:02:03 GMT</Last-Modified></Properties></Blob>\
</Blobs><NextMarker>2!92!MDAw&amp;--</NextMarker></EnumerationResults>"""
NAMES = ['a/<b> &amp; "c".parquet', "bell\x07\x07", "\ufffea b"]


def test_blobs_are_read_in_any_order_of_their_fields() -> None:
    first, second, third = blobs_of(PAGE)
    assert [first.name, second.name, third.name] == NAMES
    assert (first.etag, second.etag, third.etag) == ('"0x8D7C2F1A2B3C4D5"', '"0x1"', '"0x2"')
    assert (first.size_bytes, second.size_bytes, third.size_bytes) == (12345678901, 0, 1)
    assert first.last_modified == datetime(2026, 11, 22, 23, 42, 5, tzinfo=UTC)
    assert second.last_modified == third.last_modified == datetime(2026, 2, 9, 1, 2, 3, tzinfo=UTC)
    assert (first.md5, second.md5, third.md5) == ("5d41402abc4b2a76b9719d911017c592", None, None)


def test_names_are_those_of_the_blobs() -> None:
    assert list(names_of(PAGE)) == NAMES


def test_the_marker_tells_where_the_next_page_begins() -> None:
    assert marker_of(PAGE) == "2!92!MDAw&--"
    for last in ("<NextMarker />", "<NextMarker></NextMarker>", ""):
        assert marker_of(f"<EnumerationResults><Blobs />{last}</EnumerationResults>") is None


def test_a_page_without_blobs_has_none() -> None:
    assert list(blobs_of("<EnumerationResults><Blobs /><NextMarker /></EnumerationResults>")) == []
