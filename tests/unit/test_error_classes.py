"""Errors read well, and survive JSON and pickling as what they are."""

from __future__ import annotations

import copy
import errno
import inspect
import json
import pickle
from pathlib import Path

import pytest

from insitu import errors
from insitu.errors import InsituError, Problem, SettingsError, StorageFull, naming_write_errors

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, InsituError)]
EXIT_CODES = {"UsageError": 2, "SettingsError": 2, "DataError": 4}
ADVICE = {"found": "3 blobs", "wanted": "4 blobs", "next_action": "put it in place"}


def test_every_class_of_the_tree_is_tried_here() -> None:
    drawn = inspect.getdoc(errors)
    assert len(CLASSES) >= 16
    assert drawn is not None
    assert [c.__name__ for c in CLASSES if c.__name__ not in drawn] == []


@pytest.mark.parametrize("kind", CLASSES)
def test_the_tree_in_the_docstring_tells_code_and_exit_code(kind: type[InsituError]) -> None:
    line = next(line for line in str(errors.__doc__).splitlines() if kind.__name__ in line.split())
    assert kind is InsituError or kind.code in line
    assert kind.exit_code == EXIT_CODES.get(kind.__name__, 1)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_shows_what_found_wanted_and_next_in_this_order(kind: type[InsituError]) -> None:
    lines = str(kind("a blob is missing", **ADVICE)).splitlines()
    assert lines == [
        f"{kind.code} a blob is missing",
        "  found:  3 blobs",
        "  wanted: 4 blobs",
        "  next:   put it in place",
    ]


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_not_known_leaves_no_line(kind: type[InsituError]) -> None:
    assert str(kind("a blob is missing")) == f"{kind.code} a blob is missing"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("advice", [{}, ADVICE])
def test_an_error_survives_json(kind: type[InsituError], advice: dict[str, str]) -> None:
    error = kind("a blob is missing", **advice)
    again = InsituError.from_json(json.loads(json.dumps(error.to_json())))
    assert type(again) is kind
    assert again.to_json() == error.to_json()
    assert str(again) == str(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_pickling_and_copying(kind: type[InsituError]) -> None:
    error = kind("a blob is missing", **ADVICE)
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert (again.what, again.found, again.wanted, again.next_action) == ("a blob is missing", *ADVICE.values())


def test_the_problems_of_settings_survive_as_text() -> None:
    problem = Problem("models/m/model.toml", 3, "train.timeout", "an unknown key", "a known one", "train.timeout_s")
    error = SettingsError("the settings have 1 problem", problems=(problem,), next_action="mend it")
    again = pickle.loads(pickle.dumps(error))
    for text in (
        "models/m/model.toml:3: train.timeout",
        "found:  an unknown key",
        "hint:   train.timeout_s",
        "mend it",
    ):
        assert text in str(error)
        assert text in str(again)


def test_a_problem_without_line_and_key_shows_its_file_alone() -> None:
    assert Problem("environment", None, "", "x", "y").render().splitlines()[0] == "  environment"


@pytest.mark.parametrize("name", ["NoSuchError", "Problem", "dataclass", "Iterator", ""])
def test_an_error_of_a_strange_type_is_still_an_error(name: str) -> None:
    error = InsituError.from_json({"type": name, "what": "it broke", "found": "x"})
    assert type(error) is InsituError
    assert (error.what, error.found) == ("it broke", "x")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(number: int, tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match=str(tmp_path)), naming_write_errors(tmp_path):
        raise OSError(number, "no space")


def test_a_really_full_device_is_named() -> None:
    def fill() -> None:
        with naming_write_errors("/dev/full"), open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    with pytest.raises(StorageFull, match="/dev/full"):
        fill()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_place_that_may_not_be_written_is_named(number: int, tmp_path: Path) -> None:
    with pytest.raises(InsituError, match="cannot be written") as caught, naming_write_errors(tmp_path):
        raise OSError(number, "not yours")
    assert type(caught.value) is InsituError
    assert str(tmp_path) in caught.value.what
    assert (caught.value.found, bool(caught.value.next_action)) == ("not yours", True)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.EISDIR])
def test_another_error_of_the_disk_is_let_through(number: int, tmp_path: Path) -> None:
    error = OSError(number, "something else")
    with pytest.raises(OSError, match="something else") as caught, naming_write_errors(tmp_path):
        raise error
    assert caught.value is error
