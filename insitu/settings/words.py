"""What a settings model allows at each key, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel

from insitu.settings.toml_lines import KeyPath

# Filled from the name of the file or folder, so that the two cannot disagree.
NAME_FIELD = "name"
# Tells of which kind a table is, where it can be of several.
KIND_FIELD = "kind"

_TYPES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    Path: "a path",
}


class Slot(NamedTuple):
    """What one key may hold: a type (without None), its bounds, and what it is for."""

    kind: Any
    bounds: tuple[Any, ...] = ()
    about: str = ""


def keys_of(kind: Any) -> tuple[str, ...]:
    """Return the keys that a table of this kind, or of one of these kinds, knows; none when it is no settings model."""
    keys = (
        key
        for model in _models(kind)
        for key in model.model_fields
        if key != NAME_FIELD or getattr(model, "has_own_name", False)
    )
    return tuple(dict.fromkeys(keys))


def paths_of(kind: Any) -> Iterator[KeyPath]:
    """Yield the path of every declared key, outer before inner."""
    for key in keys_of(kind):
        yield (key,)
        below = _below(kind, key)
        yield from ((key, *inner) for inner in paths_of(below and below.kind))


def slot_at(model: type[BaseModel], path: KeyPath) -> Slot | None:
    """Return what *model* declares at *path*, or None where it declares nothing."""
    slot: Slot | None = Slot(model)
    for part in path:
        slot = _below(slot.kind, part) if slot else None
    return slot


def without_kinds(model: type[BaseModel], path: KeyPath) -> KeyPath:
    """Return *path* as the file has it: Pydantic names the kind, too, where a table is of one of several kinds."""
    slots = (slot_at(model, path[:n]) for n in range(len(path)))
    return tuple(part for part, slot in zip(path, slots, strict=True) if not (slot and part in _kinds(slot.kind)))


def choices(slot: Slot) -> tuple[str, ...]:
    """Return the only texts that the slot takes; none when it takes others."""
    return get_args(slot.kind) if get_origin(slot.kind) is Literal else ()


def holds_text(slot: Slot | None) -> bool:
    """Tell whether the slot takes text and nothing else."""
    return slot is None or slot.kind in (str, Path) or bool(choices(slot))


def in_words(slot: Slot) -> str:
    """Return type, bounds and purpose, such as "a whole number, at least 1 (CPU cores)"."""
    bounds = [words for bound in slot.bounds if (words := _bound_in_words(bound))]
    purpose = f" ({slot.about})" if slot.about else ""
    return ", ".join([_type_in_words(slot), *bounds]) + purpose


def nearest(word: str, known: tuple[str, ...]) -> str | None:
    """Return the known word that *word* was probably meant to be, or None."""
    same = [one for one in known if one.casefold() == word.casefold()]
    return next(iter(same or get_close_matches(word, known, n=1)), None)


def _slot(annotation: Any, bounds: tuple[Any, ...] = (), about: str = "") -> Slot:
    """Unwrap `Annotated[...]` and `... | None`."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _slot(inner, (*bounds, *more), about)
    if get_origin(annotation) in (Union, UnionType):
        some = [option for option in get_args(annotation) if option is not NoneType]
        if len(some) == 1:
            return _slot(some[0], bounds, about)
    return Slot(annotation, bounds, about)


def _models(kind: Any) -> tuple[type[BaseModel], ...]:
    """Return the settings models that a table of this kind can be; none when it is no table of known keys."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return tuple(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))


def _kinds(kind: Any) -> dict[str | int, type[BaseModel]]:
    """Return the models of a table that can be of several kinds, by what its key `kind` says; else none."""
    models = _models(kind)
    if len(models) < 2:
        return {}
    return {word: model for model in models for word in get_args(model.model_fields[KIND_FIELD].annotation)}


def _below(kind: Any, part: str | int) -> Slot | None:
    if kinds := _kinds(kind):
        if part == KIND_FIELD:
            return Slot(Literal.__getitem__(tuple(kinds)))
        if part in kinds:
            return Slot(kinds[part])
    for model in _models(kind):
        if part in keys_of(model):
            field = model.model_fields[str(part)]
            return _slot(field.annotation, tuple(field.metadata), field.description or "")
    if get_origin(kind) in (dict, list):
        return _slot(get_args(kind)[-1])
    return None


def _type_in_words(slot: Slot) -> str:
    if known := choices(slot):
        return " or ".join(f'"{choice}"' for choice in known)
    if get_origin(slot.kind) is list:
        return f"a list, each item {in_words(_slot(get_args(slot.kind)[0]))}"
    if get_origin(slot.kind) is dict or keys_of(slot.kind):
        return "a table"
    return _TYPES.get(slot.kind, "text, a number, true or false")


def _bound_in_words(bound: Any) -> str | None:
    match bound:
        case Gt(gt=limit):
            return f"more than {limit}"
        case Ge(ge=limit):
            return f"at least {limit}"
        case Lt(lt=limit):
            return f"less than {limit}"
        case Le(le=limit):
            return f"at most {limit}"
        case MinLen():
            return "not empty"
    return None
