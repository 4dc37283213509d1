"""Code that leaves with a job: no data, no secret, and nothing that is no code."""

from __future__ import annotations

from pathlib import Path

import pytest

from insitu.errors import EgressRefused
from insitu.residency.code import require_code

REPO = Path(__file__).parents[2]
KEY = "A" * 86 + "=="


def put(folder: Path, **files: bytes) -> dict[str, Path]:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {f"model/{name}": folder / name for name in files}


def test_the_example_and_ordinary_code_may_leave() -> None:
    folder = REPO / "models" / "flights"
    require_code({path.name: path for path in folder.iterdir() if path.is_file()})
    require_code({str(path): path for path in (REPO / "insitu").rglob("*.py")})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"KEY = '''-----BEGIN OPENSSH PRIVATE KEY-----\nabc'''", "a private key"),
        (f"url = 'DefaultEndpointsProtocol=https;AccountName=a;AccountKey={KEY}'".encode(), "a storage key"),
        (b"https://a.blob.example/c?sv=2019&sig=" + b"abcDEF123%2B" * 4, "a shared access signature"),
        (b"engine = 'postgresql://ann:s3cret-word@db.example/x'", "a password in an address"),
        (b"token = 'eyJhbGciOiJIUzI1NiIsInR5cCI6.eyJzdWIiOiIxMjM0NTY3ODkw.abc'", "a token"),
        (b"PAR1\x00\x00\x01", "no text"),
        (b"x = 1\n" * 200_000, "1,200,000 bytes"),
    ],
)
def test_secrets_data_and_what_is_no_code_are_named_without_being_shown(
    tmp_path: Path, content: bytes, told: str
) -> None:
    with pytest.raises(EgressRefused) as refused:
        require_code(put(tmp_path, **{"train.py": b"pass", "helper.py": content}))
    assert f"model/helper.py holds {told}" in refused.value.render() or told in refused.value.render()
    assert "s3cret-word" not in refused.value.render()
    assert KEY not in refused.value.render()


def test_a_table_beside_the_code_is_refused_and_a_short_list_is_not(tmp_path: Path) -> None:
    require_code(put(tmp_path, **{"airports.csv": b"code,name,zone\nJFK,Kennedy,5\nLGA,LaGuardia,5\n"}))
    prose = b"First, we load the data, then, if all is well, we fit; see above.\nSecond, nothing.\n" * 20
    require_code(put(tmp_path, **{"README.md": prose, "params.json": b'{"a": 1,\n "b": 2,\n "c": 3}\n'}))
    tables = {"sample.csv": b"1,2,3\n", "two.csv": b"1,2\n", "rows.txt": b"1\t2\t3\n", "list.json": b"[1, 2, 3],\n"}
    for name, row in tables.items():
        with pytest.raises(EgressRefused, match="rows of a table"):
            require_code(put(tmp_path, **{name: row * 50}))


def test_an_address_with_a_variable_for_its_password_is_no_secret(tmp_path: Path) -> None:
    require_code(put(tmp_path, **{"train.py": b"url = f'postgresql://{user}:{word}@db.example/x'"}))


def test_a_snapshot_of_too_many_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_bytes(b"pass")
    with pytest.raises(EgressRefused, match="2,001 files"):
        require_code({f"{number}.py": tmp_path / "one.py" for number in range(2001)})
