"""The texts of a new model's files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any, Literal

from insitu.scaffolding.features import Features
from insitu.scaffolding.holdout import Holdout, metrics_of
from insitu.scaffolding.target import Target
from insitu.settings import KNOWN_METRICS, ReadingSettings

Kind = Literal["sklearn", "lightgbm", "pytorch"]


@dataclass(frozen=True)
class Recipe:
    """What a template needs.

    Attributes:
        requirements: Packages that the model needs to be loaded.
        params: What the script takes as parameters, and what they are.
        cells: How many values of a column such a model may hold, each.
    """

    requirements: tuple[str, ...]
    params: Mapping[str, tuple[Any, str]]
    cells: int = 0


_RARE = (20, "categories seen less often count as one: rare ones could point at a row")
RECIPES: Mapping[Kind, Recipe] = {
    "sklearn": Recipe(
        ("scikit-learn", "skops", "pandas"), {"strength": (1.0, "of the regularisation"), "min_frequency": _RARE}
    ),
    "lightgbm": Recipe(
        ("lightgbm", "scikit-learn", "skops", "pandas"),
        {
            "trees": (200, "how many"),
            "learning_rate": (0.05, "how much each tree corrects"),
            "min_rows": (20, "rows of a leaf, at least"),
            "min_frequency": _RARE,
        },
        cells=2,
    ),
    "pytorch": Recipe(
        ("torch", "numpy", "pandas"),
        {"hidden": (16, "neurons"), "epochs": (30, "passes over the rows"), "min_frequency": _RARE},
    ),
}


@dataclass(frozen=True)
class Draft:
    """What was found out and decided, for the files."""

    name: str
    container: str
    pattern: str
    reading: ReadingSettings
    target: Target
    features: Features
    holdout: Holdout
    template: Kind
    spread: float | None


def model_toml(draft: Draft) -> str:
    """Return model.toml, with comments."""
    target, holdout, recipe = draft.target, draft.holdout, RECIPES[draft.template]
    lines = [
        f'# The model "{draft.name}". Every key that there is, with its meaning: models/flights/model.toml.',
        f"description = {_toml(_about(draft))}",
        "",
        "# What is predicted. A row without a value there is not learned from.",
        "[target]",
        f'task = "{target.task}"',
        f"label_column = {_toml(target.column.name)}",
        *_label(target),
        "",
        "# What the model learns from. The latest blobs, by name, are the holdout: let names sort by time.",
        "[data]",
        f"container = {_toml(draft.container)}",
        f"blobs = {_toml(draft.pattern)}",
        f"suite = {_toml(draft.name)}  # data_checks/{draft.name}.json: the data must pass, or nothing is trained",
        f"holdout_blobs = {holdout.blobs}  # never trained on; the gate judges on them",
        *_reading(draft.reading),
        "",
        "# How it is trained: the command runs in this folder, next to the data.",
        "[train]",
        'command = ["python", "train.py"]',
        "timeout_s = 3600",
        f"requirements = {json.dumps(list(recipe.requirements))}",
        "",
        "# Handed to train.py as batch.params. Changing one makes it a new run.",
        "[train.params]",
        *(f"{key} = {_toml(value)}  # {about}" for key, (value, about) in _params(draft).items()),
        *_cells(draft, recipe),
        "",
        "# When a new model may replace the published one. Both score the same rows.",
        *_gate(draft),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _label(target: Target) -> list[str]:
    if target.above is not None:
        return [f"label_above = {_toml(target.above)}  # the label is that the column is more than this"]
    if target.classes:
        names = ", ".join(map(_toml, target.classes))
        return [f"classes = [{names}]  # all there are; the model answers with a probability of each, in this order"]
    if target.one is not None:
        return [
            f"label_is = {_toml(target.one)}  # the label is that the column is this; all others are the other class"
        ]
    return []


def _about(draft: Draft) -> str:
    target = draft.target
    if target.task == "regression":
        return f"predicts {target.column.name}"
    if target.one is not None:
        return f"tells one class of {target.column.name} from the others"
    if target.classes:
        return f"predicts which of {len(target.classes)} classes {target.column.name} is, as probabilities"
    return f"predicts {target.column.name}, as a probability"


def _params(draft: Draft) -> Mapping[str, tuple[Any, str]]:
    params = RECIPES[draft.template].params
    if draft.features.texts or draft.template != "sklearn":
        return params
    return {key: one for key, one in params.items() if one is not _RARE}


def _reading(reading: ReadingSettings) -> list[str]:
    said = []
    if reading.delimiter != ",":
        said.append(f"delimiter = {_toml(reading.delimiter)}")
    if codes := [name for name, kind in reading.types.items() if kind == "text"]:
        said.append(f"# {_one_line(', '.join(codes))}: leading zeros look like a code, which a number would lose")
    if reading.types:
        types = ", ".join(f"{_toml(name)} = {_toml(kind)}" for name, kind in reading.types.items())
        said.append(f"types = {{ {types} }}  # a later value that is none is an error with its place")
    return ["", "[data.reading]", *said] if said else []


def _cells(draft: Draft, recipe: Recipe) -> list[str]:
    wanted = recipe.cells * (len(draft.features.numbers) + 1)
    if wanted <= 32:
        return []
    return ["", "# The trees note the ends of each column: single values, which the leak scan counts.", "[residency]",
            f"max_cells = {wanted}"]  # fmt: skip


def _gate(draft: Draft) -> list[str]:
    metrics = metrics_of(draft.target)
    margin = 0.02 if draft.spread is None else float(f"{draft.spread / 50:.2g}")
    unit = "" if draft.spread is None else ", in units of the label"
    overlap = draft.holdout.max_overlap
    lines = [
        "[gate]",
        f'primary = "{next(iter(metrics))}"',
        f"margin = {margin:g}  # how much of it may be lost, at most{unit}",
        f"min_rows = {draft.holdout.min_rows}  # rows of holdout below which there is no verdict",
        *([f"max_overlap = {overlap:g}  # share of the holdout's rows that equal earlier ones"] if overlap else []),
    ]
    for name, floor in metrics.items():
        lines += ["", f"[gate.metrics.{name}]", f'direction = "{KNOWN_METRICS[name].better}"']
        lines += [f"floor = {floor}: raise it to what is of use"] if floor else []
    return lines


def scripts(draft: Draft) -> dict[str, str]:
    """Return the model's scripts by name."""
    names = {"train.py": draft.template} | ({"scorer.py": "scorer"} if draft.template == "pytorch" else {})
    return {name: _filled(template, _values(draft)) for name, template in names.items()}


def _filled(template: str, values: Mapping[str, str]) -> str:
    text = files("insitu.scaffolding").joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(values).rstrip("\n") + "\n"


def _values(draft: Draft) -> dict[str, str]:
    features, is_class = draft.features, draft.target.task == "classification"
    classes = len(draft.target.classes)
    left_out = "".join(f"#   {_one_line(f'{name}: {why}')}\n" for name, why in features.left_out.items())
    return {
        "about": f"{_one_line(_about(draft))[0].upper()}{_one_line(_about(draft))[1:]}.",
        "numbers": _listed(features.numbers),
        "texts": _listed(features.texts),
        "left_out": f"# Not learned from:\n{left_out}" if left_out else "",
        "estimator": f"LGBM{'Classifier' if is_class else 'Regressor'}",
        "fitted": _FITTED[draft.template][is_class],
        "predict": "predict_proba" if is_class else "predict",
        "task": draft.target.task,
        "outputs": str(classes or 1),
        "loss": "CrossEntropyLoss" if classes else "BCEWithLogitsLoss" if is_class else "MSELoss",
        "kind": "int64" if classes else "float32",
        "answered": "" if classes else "[:, 0]",
        "example": f"np.zeros((1, {classes}))" if classes else "np.zeros(1)",
        "wanted": "y" if is_class else '(y - np.float32(facts["answer"][0])) / np.float32(facts["answer"][1])',
        **_sklearn(draft),
    }


_TREES = """(
        n_estimators=batch.params["trees"],
        learning_rate=batch.params["learning_rate"],
        min_child_samples=batch.params["min_rows"],
        num_leaves=15,
        random_state=0,
        n_jobs=1,  # the same rows, the same model
        verbose=-1,
    )"""
_FITTED = {
    "sklearn": (
        'Ridge(alpha=batch.params["strength"])',
        'LogisticRegression(C=1 / batch.params["strength"], max_iter=1000)',
    ),
    "lightgbm": (f"LGBMRegressor{_TREES}", f"LGBMClassifier{_TREES}"),
    "pytorch": ("", ""),
}


def _sklearn(draft: Draft) -> dict[str, str]:
    """Return how the columns are prepared, the export of that where there can be one, and the imports for both."""
    texts, is_class = draft.features.texts, draft.target.task == "classification"
    numbers = 'make_pipeline(SimpleImputer(strategy="mean"), StandardScaler())'
    kinds = 'OneHotEncoder(handle_unknown="ignore", min_frequency=batch.params["min_frequency"])'
    if draft.features.gaps:
        filled = 'SimpleImputer(strategy="constant", fill_value="missing")'
        kinds = f"make_pipeline(\n    {filled},\n    {kinds},\n)"
    imports = {
        "import mlflow.sklearn",
        "from mlflow.models import infer_signature",
        "from sklearn.impute import SimpleImputer",
        f"from sklearn.linear_model import {'LogisticRegression' if is_class else 'Ridge'}",
        "from sklearn.pipeline import make_pipeline",
        f"from sklearn.preprocessing import {'OneHotEncoder, ' if texts else ''}StandardScaler",
    }
    columns = f"columns = {numbers}"
    if texts:
        imports.add("from sklearn.compose import ColumnTransformer")
        columns = (
            f"numbers = {numbers}\nkinds = {kinds}\n"
            'columns = ColumnTransformer([("numbers", numbers, NUMBERS), ("kinds", kinds, TEXTS)])'
        )
    matrix, onnx = 'X[:1].to_numpy("float32")', ""
    options = ', options={"zipmap": False}' if is_class else ""
    if _is_portable(draft.features):
        imports.add("from skl2onnx import to_onnx")
        example = 'X[:1].astype({**dict.fromkeys(NUMBERS, "float32"), **dict.fromkeys(TEXTS, object)})'
        onnx = (
            "\n# The portable form: the image then serves the model without scikit-learn, if it answers alike.\n"
            f"example = {example if texts else matrix}\n"
            f"onnx = to_onnx(model, example, name={json.dumps(draft.name)}{options})\n"
            '(batch.output / "model.onnx").write_bytes(onnx.SerializeToString())'
        )
    return {"imports": _sorted(imports), "columns": columns, "onnx": onnx}


def _is_portable(features: Features) -> bool:
    """Tell whether skl2onnx can write it down: it changes odd names, and knows no texts that are missing."""
    names = (*features.numbers, *features.texts)
    return not features.texts or (not features.gaps and all(re.fullmatch(r"\w+", name) for name in names))


def _sorted(imports: Iterable[str]) -> str:
    """Return import lines as ruff sorts them."""
    return "\n".join(sorted(imports, key=lambda line: (line.startswith("from"), line.split()[1])))


def _listed(names: Sequence[str]) -> str:
    """Return a list as a formatter would write it, in lines of at most 120 characters."""
    line = f"[{', '.join(json.dumps(name, ensure_ascii=False) for name in names)}]"
    if len(line) < 100:
        return line
    return "[\n" + "".join(f"    {json.dumps(name, ensure_ascii=False)},\n" for name in names) + "]"


def _one_line(text: str) -> str:
    """Return *text* as it can stand in a comment or docstring: nothing in it ends that, or is unseen."""
    seen = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(seen.split()).replace("\\", "/").replace('"""', "'''")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # which only TOML wants escaped
