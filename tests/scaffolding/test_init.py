"""`insitu init` makes of data a model that loads, from any format, and leaves nothing behind when it refuses."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from customer_data import Init, customers

from flows.deploying.prefect_lint import read_entries
from insitu.edge.data import EdgeBatch
from insitu.runs import Run, open_run


def windows(frame: pd.DataFrame, separator: str = ",") -> bytes:
    """Return CSV as Excel writes it: a mark at its beginning, and CR LF."""
    return ("\ufeff" + frame.to_csv(index=False, sep=separator)).replace("\n", "\r\n").encode()


def lines(frame: pd.DataFrame) -> bytes:
    return frame.to_json(orient="records", lines=True, force_ascii=False).encode()


def rows_of(run: Run) -> list[pd.DataFrame]:
    """Return the training part and the holdout, as a script would read them."""
    target, data = run.model.target.model_dump(), run.model.data
    parts = (run.training_part, run.holdout)
    store = run.site.data(data.container)
    return [EdgeBatch(part, store, target, {}, Path(), Path(), data.reading).table().to_pandas() for part in parts]


ANSWERS = ("--target", "Ergebnis", "--positive", "ja")


@pytest.mark.parametrize("form", ["csv", "csv.gz", "jsonl", "parquet"])
def test_one_file_becomes_two_parts_that_hold_each_row_once(form: str, init: Init, project: Path) -> None:
    frame, file = customers(1), project.parent / f"Kündigungen.v2.{form}"
    if form == "parquet":
        frame.to_parquet(file)
    else:
        written = lines(frame) if form == "jsonl" else windows(frame, ";")
        file.write_bytes(gzip.compress(written) if form.endswith("gz") else written)
    init("churn", "--data", str(file), *ANSWERS)

    run = open_run(project, "churn", "local")
    train, holdout = rows_of(run)
    assert sorted([*train["Kunden Nr"], *holdout["Kunden Nr"]]) == list(frame["Kunden Nr"])
    assert run.model.gate.min_rows <= len(holdout) < len(train)
    assert list(train.columns) == list(frame.columns)
    assert [blob.name for blob in run.batch.blobs] == [f"0000-part-{number}.{form}" for number in (1, 2)]
    assert train["Notiz"].str.contains("„später“").all()


def test_a_folder_is_copied_as_it_is_and_the_latest_blob_is_the_holdout(init: Init, project: Path) -> None:
    folder = project.parent / "Läden"
    folder.mkdir()
    for month in (1, 2, 3):
        (folder / f"Umsätze {month:02d}.csv").write_bytes(windows(customers(month, 300, month)))
    (folder / "LIESMICH.txt").write_text("no data")
    told = json.loads(init("laeden-2", "--data", str(folder), *ANSWERS, "--json").stdout)

    assert told["data"]["ignored"] == 1
    assert told["features"] == {"numbers": ["Größe (cm)", "Alter", "Umsatz"], "texts": ["Straße"]}
    assert told["left_out"].keys() == {"Kunden Nr", "seit", "Notiz"}
    run = open_run(project, "laeden-2", "local")
    assert [blob.name for blob in run.holdout.blobs] == ["Umsätze 03.csv"]
    assert run.model.data.reading.types == {"seit": "timestamp"}
    compile((project / "models/laeden-2/train.py").read_text(), "train.py", "exec")
    assert [entry.said.name for entry in read_entries(project)] == ["flights", "back", "new-data", "laeden-2"]


def test_a_name_that_yaml_would_read_as_a_date_is_quoted(init: Init, project: Path) -> None:
    (project.parent / "d.csv").write_bytes(windows(customers(1)))
    assert "prefect.yaml" in init("2026-10-01", "--data", str(project.parent / "d.csv"), *ANSWERS).stdout
    assert read_entries(project)[-1].said.name == "2026-10-01"


def test_data_that_lies_at_the_site_is_used_in_place(init: Init, project: Path) -> None:
    folder = project / "var/blobs/shops/de"
    folder.mkdir(parents=True)
    for month in (1, 2):
        customers(month, month=month).to_parquet(folder / f"{month}.parquet")
    told = json.loads(init("shops", "--data", str(folder), *ANSWERS, "--json").stdout)
    assert told["data"]["copied"] == []
    assert (told["data"]["container"], told["data"]["blobs"]) == ("shops", "de/*.parquet")
    assert len(open_run(project, "shops", "local").batch.blobs) == 2


def test_what_is_not_clear_is_asked_and_no_error_holds_a_class(init: Init, project: Path) -> None:
    file = project.parent / "c.csv"
    file.write_bytes(windows(customers(1)))
    assert "Ergebnis" in init("c-1", "--data", str(file), code=2).stderr
    asked = init("c-1", "--data", str(file), "--target", "Ergebnis", code=2)
    assert "ja, nein" in asked.stderr.split("E-USE")[0]
    assert "nein" not in asked.stderr.split("E-USE")[1]
    assert "--positive" in asked.stderr
    in_json = init("c-1", "--data", str(file), "--target", "Ergebnis", "--json", code=2)
    assert "nein" not in in_json.stdout
    assert not (project / "models/c-1").exists()


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("target", [0, 1], ""),
        ("LABEL", [1, 2], "label_above = 1.0"),
        ("y", [False, True], ""),
        ("outcome", [0.5, 1.5, 2.5, 4.25] * 10, 'task = "regression"'),
    ],
)
def test_a_column_that_is_called_so_is_the_target(
    name: str, values: list[float], said: str, init: Init, project: Path
) -> None:
    frame = customers(1)[["Größe (cm)", "Straße"]]
    frame[name] = (values * len(frame))[: len(frame)]
    frame["again"] = frame[name]
    frame.to_csv(project.parent / "t.csv", index=False)
    told = json.loads(init("t-1", "--data", str(project.parent / "t.csv"), "--json").stdout)
    assert told["target"]["column"] == name
    assert told["left_out"] == {"again": f"says the same as {name}"}
    assert said in (project / "models/t-1/model.toml").read_text()


REFUSED = {
    "a name that is none": ("My Model", "x,target\n1,0\n", "call it my_model"),
    "one row": ("m", "x,target\n1,0\n", "none has two different values"),
    "too few rows": ("m", "x,target\n" + "1,0\n2,1\n3,1\n" * 10, "too few rows"),
    "no rows": ("m", "x,target\n", "no rows"),
    "nothing to learn from": ("m", "x,target\n" + "1,0\n1,1\n" * 200, "no column is left to learn from"),
    "names that come twice": ("m", "x,x,target\n" + "1,2,0\n2,1,1\n" * 200, "x"),
}


@pytest.mark.parametrize(("name", "text", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused_and_leaves_nothing(
    name: str, text: str, said: str, init: Init, project: Path
) -> None:
    file, before = project.parent / "d.csv", sorted(project.rglob("*"))
    file.write_text(text)
    refused = init(name, "--data", str(file), code=2 if name != "m" or "nothing" in said or "no column" in said else 4)
    assert said in refused.stderr
    assert sorted(path for path in project.rglob("*") if path.name != "var") == before


INFINITE = "x,target\n" + "".join(f"{n % 7},{'inf' if n == 3 else n / 3}\n" for n in range(300))


def test_infinite_labels_are_refused_and_leave_nothing(init: Init, project: Path) -> None:
    file, before = project.parent / "d.csv", sorted(project.rglob("*"))
    file.write_text(INFINITE)
    assert "1 of 300 rows" in init("m-1", "--data", str(file), code=4).stderr
    assert sorted(path for path in project.rglob("*") if path.name != "var") == before
    file.write_text(INFINITE.replace("inf", ""))
    init("m-1", "--data", str(file))


def test_where_the_last_step_fails_the_others_are_undone(init: Init, project: Path) -> None:
    file, listed = project.parent / "d.csv", (project / "prefect.yaml").read_bytes()
    file.write_bytes(windows(customers(1)))
    (project / "prefect.yaml").write_bytes(listed + "# für Öl\n".encode("latin-1"))
    before = sorted(path for path in project.rglob("*") if "var" not in path.parts)
    init("m-1", "--data", str(file), *ANSWERS, code=1)
    assert sorted(path for path in project.rglob("*") if "var" not in path.parts) == before
    (project / "prefect.yaml").write_bytes(listed)
    init("m-1", "--data", str(file), *ANSWERS)


def test_labels_that_are_not_known_leave_a_margin(init: Init, project: Path) -> None:
    file, labels = project.parent / "nan.parquet", [float("nan") if n == 3 else n / 3 for n in range(300)]
    pl.DataFrame({"x": [n % 7 for n in range(300)], "target": labels}).write_parquet(file)
    init("m-1", "--data", str(file))
    assert "margin = 0.58" in (project / "models/m-1/model.toml").read_text()


def test_nothing_is_overwritten(init: Init, project: Path) -> None:
    file = project.parent / "d.csv"
    file.write_bytes(windows(customers(1)))
    init("churn", "--data", str(file), *ANSWERS)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert "such as churn-2" in init("churn", "--data", str(file), *ANSWERS, code=2).stderr
    (project / "models/churn").rename(project / "models/gone")
    (project / "data_checks/churn.json").rename(project / "data_checks/gone.json")
    assert "container churn already" in init("churn", "--data", str(file), *ANSWERS, code=2).stderr
    assert sorted(before.values()) == sorted(p.read_bytes() for p in project.rglob("*") if p.is_file())


@pytest.mark.parametrize("data", ["https://elsewhere.example/data.csv?sig=secret", "nowhere", "."])
def test_data_that_is_not_there_is_named(data: str, init: Init, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.parent / "empty").mkdir()
    monkeypatch.chdir(project.parent / "empty")
    refused = init("m-1", "--data", data, code=4 if data == "." else 2)
    assert "secret" not in refused.stderr
    assert data.split("?")[0] in refused.stderr or "there is no data" in refused.stderr


def test_an_index_without_a_name_and_odd_names_are_no_obstacle(init: Init, project: Path) -> None:
    frame = customers(1)[["Größe (cm)", "Straße"]].rename(columns={"Größe (cm)": 'a "q"\\', "Straße": "$k\n'"})
    frame["target"] = [0, 1] * 200
    frame.to_csv(project.parent / "odd.csv", sep="\t")
    told = json.loads(init("odd", "--data", str(project.parent / "odd.csv"), "--json").stdout)
    assert (told["features"], told["left_out"]) == ({"numbers": ['a "q"\\'], "texts": ["$k\n'"]}, {})
    compile((project / "models/odd/train.py").read_text(), "train.py", "exec")
    train, holdout = rows_of(open_run(project, "odd", "local"))
    assert len(train) + len(holdout) == len(frame)


def test_a_header_in_quotes_and_numbers_with_a_comma_are_told_from_separators(init: Init, project: Path) -> None:
    frame, file = customers(1)[["Größe (cm)", "Straße", "Umsatz"]], project.parent / "Käse.csv"
    frame = frame.rename(columns={"Straße": "a,b,c,d,e,f", "Umsatz": "g;h"}).assign(target=[0, 1] * 200)
    text = frame.to_csv(index=False, sep=";", decimal=",").replace("a,b,c,d,e,f", '"a,b,c,d,e,f"')
    file.write_bytes(("\ufeff" + text).replace("\n", "\r\n").encode())
    told = json.loads(init("commas", "--data", str(file), "--json").stdout)
    assert all("a decimal point" in told["left_out"][name] for name in ("Größe (cm)", "g;h"))
    assert "decimal comma" in init("kaese", "--data", str(file), "--target", "g;h", code=4).stderr
    frame.to_csv(file, index=False, sep=";", quoting=1, encoding="utf-8-sig", lineterminator="\r\n")
    told = json.loads(init("kaese", "--data", str(file), "--json").stdout)
    assert told["features"] == {"numbers": ["Größe (cm)", "g;h"], "texts": ["a,b,c,d,e,f"]}
    assert told["data"]["reading"] == {"delimiter": ";"}


def test_digits_with_leading_zeros_are_a_code_and_no_number(init: Init, project: Path) -> None:
    codes = {"plz": ["01067", "80331", "10115", "04109"] * 100, "part": [f"{n:05d}" for n in range(400)]}
    frame = pd.DataFrame({**codes, "hour": ["07", "11"] * 200, "target": [0, 1, 1, 0, 0] * 80})
    frame.to_csv(project.parent / "codes.csv", index=False)
    said = init("codes", "--data", str(project.parent / "codes.csv")).stdout
    assert "read as text, since leading zeros make it look like a code: plz, part" in said
    assert "learned from: hour, plz" in said
    assert "not part: looks like a code (leading zeros) with too many different values" in said
    assert open_run(project, "codes", "local").model.data.reading.types == {"plz": "text", "part": "text"}
    assert "# plz, part: leading zeros look like a code" in (project / "models/codes/model.toml").read_text()
    assert "leading zeros, which a number would lose" in (project / "data_checks/codes.json").read_text()
    init("label", "--data", str(project.parent / "codes.csv"), "--target", "part", "--task", "regression")
    frame.drop(columns="target").rename(columns={"part": "y"}).to_csv(project.parent / "named.csv", index=False)
    told = json.loads(init("named", "--data", str(project.parent / "named.csv"), "--json").stdout)
    assert (told["target"], told["data"]["reading"]["types"]) == (
        {"column": "y", "task": "regression"}, {"plz": "text"},
    )  # fmt: skip


def test_of_more_than_two_classes_each_is_predicted_unless_one_is_named(init: Init, project: Path) -> None:
    frame = customers(1).dropna()
    frame.to_csv(project.parent / "c.csv", index=False)
    init("every", "--data", str(project.parent / "c.csv"), "--target", "Straße")
    run = open_run(project, "every", "local")
    assert run.model.target.classes == ["Nord", "Süd", "Öst"]
    assert list(run.model.gate.metrics) == ["macro_f1", "accuracy", "log_loss"]
    suite = json.loads(run.suite_file.read_text())
    of_label = [one["kwargs"] for one in suite["expectations"] if one["kwargs"].get("column") == "Straße"]
    assert {"column": "Straße", "value_set": ["Nord", "Süd", "Öst"]} in of_label  # not one row of another class
    init("one", "--data", str(project.parent / "c.csv"), "--target", "Straße", "--positive", "Süd")
    assert open_run(project, "one", "local").model.target.label_is == "Süd"


def test_an_entry_that_is_written_otherwise_is_found(init: Init, project: Path) -> None:
    (project.parent / "d.csv").write_bytes(windows(customers(1)))
    listed = project / "prefect.yaml"
    listed.write_text(listed.read_text().replace("- name: back\n", "- name: 'd-1' # of old\n", 1))
    told = json.loads(init("d-1", "--data", str(project.parent / "d.csv"), *ANSWERS, "--json").stdout)
    assert (told["entry"], "prefect.yaml" in told["files"]) == (None, False)


@pytest.mark.parametrize("template", ["sklearn", "lightgbm", "pytorch"])
def test_no_text_of_a_header_becomes_code(template: str, init: Init, project: Path) -> None:
    said = "print('run from the header')"
    target = f'lab\n{said}\r{said}\x0c{said}\u2028{said}\x7f"""\\'
    frame = customers(1)[["Größe (cm)"]].assign(**{target: [0, 1] * 200, f"again\n{said}": [0, 1] * 200})
    frame.to_parquet(project.parent / "odd.parquet")
    answers = ("--target", target, "--template", template)
    init("odd", "--data", str(project.parent / "odd.parquet"), *answers)
    assert open_run(project, "odd", "local").model.target.label_column == target
    tree = ast.parse((project / "models/odd/train.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not any("header" in ast.unparse(call) for call in calls)
