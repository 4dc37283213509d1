"""Will this flight arrive more than 15 minutes late? A logistic regression on what is known before departure.

Trained through `insitu.edge.data`, which shows the training part of the batch and nothing else.
A linear model over frequent categories keeps no row of the data in its file.
"""

from __future__ import annotations

import json
import warnings

import mlflow.sklearn
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from insitu.edge.data import open_batch

TEXT = ["carrier", "origin", "dest"]
NUMBERS = ["hour", "distance"]

# MLflow warns that whole numbers cannot be missing: these columns never are, the suite sees to it.
warnings.filterwarnings("ignore", message=".*Inferred schema contains integer column")

batch = open_batch()
X, y = batch.examples(TEXT + NUMBERS)
print(f"training on {len(X):,} flights of {len(batch.batch.blobs)} months, {y.mean():.1%} of them late")

rare = OneHotEncoder(handle_unknown="ignore", min_frequency=batch.params["min_frequency"])
model = Pipeline(
    [
        ("columns", ColumnTransformer([("kind", rare, [*TEXT, "hour"]), ("scale", StandardScaler(), ["distance"])])),
        ("late", LogisticRegression(C=batch.params["C"], max_iter=300)),
    ]
).fit(X, y)
probabilities = model.predict_proba(X)
print(f"fitted in {model['late'].n_iter_[0]} iterations")

mlflow.sklearn.save_model(
    model,
    batch.output / "model",
    signature=infer_signature(X, probabilities),
    pyfunc_predict_fn="predict_proba",
    pip_requirements=["scikit-learn", "skops", "pandas"],
)
# The portable form: the image then serves the model without scikit-learn. Names fixed: same model, same bytes.
onnx = to_onnx(model, X[:1].astype(dict.fromkeys(TEXT, object)), name="flights", options={"zipmap": False})
(batch.output / "model.onnx").write_bytes(onnx.SerializeToString())
(batch.output / "metrics.json").write_text(json.dumps({"train_log_loss": log_loss(y, probabilities)}))
