from __future__ import annotations

from pathlib import Path

import pytest

from insitu.errors import ImageFailed
from insitu.images.environment import Installed, closure, environment_recipe, serving_requirements
from insitu.images.layers import Entry


def install(folder: Path, name: str, *requires: str, installer: str = "pip", more: str = "") -> Path:
    """Leave a distribution in *folder* as an installer would."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("")
    extras = "Provides-Extra: more\n" + "".join(f"Requires-Dist: {one}\n" for one in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{extras}")
    (info / "INSTALLER").write_text(installer)
    (info / "RECORD").write_text(
        f"{name}/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n"
        f"{name}-1.0.dist-info/METADATA,,\n{name}-1.0.dist-info/INSTALLER,,\n"
        f"{name}-1.0.dist-info/RECORD,,\n../../bin/{name},,\n{more}"
    )
    return folder


def names(found: tuple[Installed, ...]) -> list[str]:
    return [one.name for one in found]


def test_extras_and_markers_decide_what_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "aa", 'bb; extra == "more"', 'never-there; sys_platform == "win32"')
    install(tmp_path, "bb", "aa")
    monkeypatch.syspath_prepend(tmp_path)
    assert names(closure(["aa", 'nothing; python_version < "3"'])) == ["aa"]
    assert names(closure(["AA[more]"])) == ["aa", "bb"]


def test_a_requirement_that_is_not_installed_is_named_with_who_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "aa", "surely-not-there>=2")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImageFailed, match=r"surely-not-there is not installed, but aa wants it"):
        closure(["aa"])
    with pytest.raises(ImageFailed, match=r"numpy .* is installed, but the model wants another"):
        closure(["numpy<1"])
    with pytest.raises(ImageFailed, match="not a requirement"):
        closure(["numpy=<1"])


def test_an_editable_installation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "aa")
    (tmp_path / "aa-1.0.dist-info" / "direct_url.json").write_text('{"dir_info": {"editable": true}}')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImageFailed, match="editable"):
        closure(["aa"])


def test_the_tool_that_installed_it_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[str, list[Entry]]] = []
    compiled = "aa/__pycache__/__init__.cpython-311.pyc,,\naa-1.0.dist-info/REQUESTED,,\n"
    for name, installer, more in (("x", "pip", compiled), ("y", "uv", "")):
        folder = install(tmp_path / name, "aa", installer=installer, more=more)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            (one,) = closure(["aa"])
            entries = [Entry(e.name, e.source if isinstance(e.source, bytes) else None) for e in one.entries()]
            found.append((one.key, entries))
    assert found[0] == found[1]
    assert [entry.name.rpartition("/")[2] for entry in found[0][1]] == ["METADATA", "__init__.py", "RECORD"]


def test_a_damaged_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "aa")
    (tmp_path / "aa" / "__init__.py").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImageFailed, match=r"aa 1\.0 is damaged"):
        list(environment_recipe(["aa"], tmp_path / "work").entries())


def test_mlflow_is_replaced_by_the_part_of_it_that_serves(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("mlflow==3.17.2\n# why\nscikit-learn==1.9.1  # pinned\n--pre\n")
    assert serving_requirements(tmp_path, "onnx") == ("onnxruntime", "httptools", "numpy", "uvicorn")
    found = serving_requirements(tmp_path, "pyfunc")
    assert found == ("mlflow-skinny", "pandas", "httptools", "numpy", "uvicorn", "scikit-learn==1.9.1")
