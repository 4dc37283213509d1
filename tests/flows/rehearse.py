"""The training command of the flow tests: misbehaves as REHEARSE says, or runs the model's own script.

A variable is no part of the run key, so the same run can fail first and go on later.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import time
from pathlib import Path


def main(act: str) -> None:
    output = Path(os.environ["INSITU_OUTPUT"])
    match act:
        case "raise":
            raise ValueError(f"cannot use the row {os.environ['PLANTED']}")
        case "exit 3":
            sys.exit(3)
        case "print a gigabyte":
            for _ in range(1024):
                os.write(1, (b"the same line again and again".ljust(127) + b"\n") * 8192)
        case "leave no model":
            return
        case "sleep":
            subprocess.Popen(["sleep", "600"])
            (output / "sleeping").touch()
            time.sleep(600)
        case "wait":
            (output / "waiting").touch()
            while not Path(os.environ["GO_ON"]).exists():
                time.sleep(0.1)
        case "fill the disk":
            with open(output / "ballast", "wb") as file:
                while True:
                    file.write(bytes(1 << 20))
        case "leave no signature" | "predict NaN" | "be a forest" | "keep the rows":
            save_another_model(act, output / "model")
            return
    sys.argv = ["train.py"]
    runpy.run_path("train.py", run_name="__main__")


def save_another_model(act: str, folder: Path) -> None:
    import mlflow.pyfunc
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.ensemble import RandomForestClassifier

    from insitu.edge.data import open_batch

    X, y = open_batch().examples(["hour", "distance"])  # noqa: N806 - what everybody calls it
    if act == "predict NaN":

        class Silent(mlflow.pyfunc.PythonModel):
            def predict(self, context: object, model_input: pd.DataFrame) -> pd.Series:
                return pd.Series(float("nan"), index=model_input.index)

        signature = infer_signature(X, pd.Series([0.5]))
        mlflow.pyfunc.save_model(folder, python_model=Silent(), signature=signature, pip_requirements=["pandas"])
        return
    if act == "keep the rows":
        from sklearn.neighbors import KNeighborsClassifier

        near = KNeighborsClassifier(100, algorithm="brute").fit(X, y)
        mlflow.sklearn.save_model(
            near,
            folder,
            signature=infer_signature(X, near.predict_proba(X[:9])),
            pyfunc_predict_fn="predict_proba",
            pip_requirements=["scikit-learn", "pandas", "skops"],
        )
        return
    forest = RandomForestClassifier(20, max_depth=4, min_samples_leaf=20, random_state=0).fit(X, y)
    mlflow.sklearn.save_model(
        forest,
        folder,
        signature=None if act == "leave no signature" else infer_signature(X, forest.predict_proba(X)),
        pyfunc_predict_fn="predict_proba",
        skops_trusted_types=["sklearn.tree._tree.Tree"],
        pip_requirements=["scikit-learn", "pandas", "skops"],
    )


if __name__ == "__main__":
    main(os.environ.get("REHEARSE", ""))
