"""Which reader opens a piece: told by its bytes, never by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from insitu.residency.decoding import archives, arrays, hidden, media, onnx, pickles, streams, tables, texts
from insitu.residency.decoding.pieces import Budget, Piece, Unopened

Found = Iterator[Piece | Unopened]
Opener = Callable[[Piece, Budget], Found]


def _container(data: memoryview) -> Opener | None:
    """Return the reader of the format that *data* is wholly in."""
    if (stream := streams.kind_of(data)) and stream not in streams.WEAK:
        return lambda piece, budget: _stream(piece, budget, stream)
    if table := tables.is_arrow_table(data):
        return lambda piece, budget: tables.open_arrow_table(piece, budget, table)
    simple: tuple[tuple[Callable[[memoryview], bool], Opener], ...] = (
        (arrays.is_npy, arrays.open_npy),
        (arrays.is_safetensors, arrays.open_safetensors),
        (tables.is_sqlite, tables.open_sqlite),
        (media.is_png, media.open_png),
        (archives.is_tar, archives.open_tar),
        (pickles.is_pickle, pickles.open_pickle),
        (onnx.is_onnx, onnx.open_onnx),
        (archives.is_zip, archives.open_zip),
    )
    return next((opener for is_one, opener in simple if is_one(data)), None)


def _stream(piece: Piece, budget: Budget, kind: str) -> Found:
    found, end = streams.unpack(piece, budget, kind)
    yield from found
    if end < len(piece.data) and not archives.is_zero(rest := piece.data[end:]):
        yield piece.child("rest", rest)


def is_container(data: memoryview) -> bool:
    """Tell whether *data* holds something that lies in another form than in it."""
    return bool(_container(data) or media.closed_kind(data) or streams.kind_of(data))


def opened(piece: Piece, budget: Budget) -> Found:
    """Yield all that is found in *piece*, and `Unopened` where something in it stays closed."""
    if piece.kind == "text":  # decoded: bytes beyond ASCII are letters in it, and begin no format
        yield from pickles.open_pickle(piece, budget) if pickles.is_pickle(piece.data) else ()
    elif closed := media.closed_kind(piece.data):
        yield Unopened(piece.path, f"{closed} is not opened here")
    elif container := _container(piece.data):
        yield from container(piece, budget)
    else:
        yield from _loose(piece, budget)
    if piece.seen or _is_packed(piece.data):  # what it was found in was read so already, or there is nothing to read
        return
    yield from texts.open_texts(piece, budget)
    yield from texts.open_wide(piece, budget)
    yield from hidden.open_tagged(piece, budget)


def _is_packed(data: memoryview) -> bool:
    kind = streams.kind_of(data)
    return bool(kind and kind not in streams.WEAK)


def _loose(piece: Piece, budget: Budget) -> Found:
    """Yield the packed streams in bytes of no known format, then say whether the others look packed."""
    spans: list[tuple[int, int]] = []
    yield from hidden.open_streams(piece, budget, spans)
    if piece.plain or media.is_media(piece.data) or media.is_program(piece.data):
        return
    if media.is_pdf(piece.data) and media.is_encrypted_pdf(piece.data):
        yield Unopened(piece.path, "it is an encrypted PDF")
    elif (place := hidden.packed_at(piece.data, spans)) is not None:
        yield Unopened(piece.path, f"it looks compressed or encrypted at byte {place}, in no format that is known here")
