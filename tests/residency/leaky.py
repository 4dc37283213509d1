"""Models of scikit-learn that keep the rows that they are fitted to, and records to plant in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import DBSCAN, HDBSCAN, Birch
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import KernelPCA
from sklearn.ensemble import BaggingRegressor, StackingRegressor, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.impute import KNNImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression
from sklearn.manifold import Isomap, LocallyLinearEmbedding
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import (
    BallTree,
    KDTree,
    KernelDensity,
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
    NearestNeighbors,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
)
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.semi_supervised import LabelPropagation, LabelSpreading
from sklearn.svm import SVR, NuSVR

COLUMNS = ("age", "income", "height", "weight", "pressure", "glucose")
"""In units of their own."""
_DRAWN = np.random.default_rng(20130105)
PEOPLE = _DRAWN.normal(size=(300, len(COLUMNS))) * [1.5, 0.9, 1.0, 1.2, 1.4, 2.0] + [4, 4, 1, 7, 2, 9]
PLANTED, RESERVED = range(100), range(200, 300)
"""People who are trained on, and people who are not: the scanner knows both."""

X = PEOPLE[:200]
LABELS = (X[:, 4] > 2) * 1
TARGET = X[:, 5] + _DRAWN.normal(size=len(X))

Fit = Callable[[], Any]
_near = KNeighborsClassifier


def _fitted(model: Any, y: Any = LABELS) -> Fit:
    return lambda: model.fit(X, y)


KINDS: dict[str, Fit] = {
    "nearest neighbours, classifier": _fitted(_near()),
    "nearest neighbours, brute force": _fitted(_near(algorithm="brute")),
    "nearest neighbours, ball tree": _fitted(_near(algorithm="ball_tree")),
    "nearest neighbours in single precision": lambda: _near(algorithm="brute").fit(X.astype(np.float32), LABELS),
    "nearest neighbours, columns first": lambda: _near(algorithm="brute").fit(np.asfortranarray(X), LABELS),
    "nearest neighbours, regressor": _fitted(KNeighborsRegressor(), TARGET),
    "neighbours in a radius, classifier": _fitted(RadiusNeighborsClassifier(1e6)),
    "neighbours in a radius, regressor": _fitted(RadiusNeighborsRegressor(1e6), TARGET),
    "neighbours, no labels": _fitted(NearestNeighbors()),
    "neighbours, transformer": _fitted(KNeighborsTransformer()),
    "a ball tree": lambda: BallTree(X),
    "a k-d tree": lambda: KDTree(X),
    "local outlier factor": _fitted(LocalOutlierFactor(novelty=True)),
    "kernel density": _fitted(KernelDensity()),
    "imputer of neighbours": _fitted(KNNImputer()),
    "Gaussian process, classifier": _fitted(GaussianProcessClassifier(optimizer=None)),
    "Gaussian process, regressor": _fitted(GaussianProcessRegressor(alpha=1.0, optimizer=None), TARGET),
    "kernel ridge": _fitted(KernelRidge(kernel="rbf"), TARGET),
    "kernel principal components": _fitted(KernelPCA(2, kernel="rbf")),
    "Nystroem": _fitted(Nystroem(n_components=len(X))),
    "Isomap": _fitted(Isomap(n_neighbors=30)),
    "locally linear embedding": _fitted(LocallyLinearEmbedding(eigen_solver="dense", n_neighbors=30)),
    "label propagation": _fitted(LabelPropagation(kernel="knn")),
    "label spreading": _fitted(LabelSpreading(kernel="knn")),
    "support vectors, regressor": _fitted(SVR(epsilon=0.0), TARGET),
    "support vectors, regressor by nu": _fitted(NuSVR(nu=1.0), TARGET),
    "density clusters": _fitted(DBSCAN(eps=1e6)),
    "hierarchical density clusters": _fitted(HDBSCAN(copy=True)),
    "Birch": _fitted(Birch(threshold=1e-9, n_clusters=None, branching_factor=50)),
    "a pipeline": _fitted(Pipeline([("last", _near())])),
    "a union of features": _fitted(FeatureUnion([("near", KNeighborsTransformer()), ("far", KNNImputer())])),
    "a transformer of columns": _fitted(ColumnTransformer([("all", KNNImputer(), list(range(len(COLUMNS))))])),
    "a vote": _fitted(VotingClassifier([("near", _near())])),
    "one against the rest": _fitted(OneVsRestClassifier(_near())),
    "bagging": _fitted(BaggingRegressor(KNeighborsRegressor(), 2, bootstrap=False), TARGET),
    "stacking": _fitted(StackingRegressor([("near", KNeighborsRegressor())], LinearRegression(), cv=2), TARGET),
    "several outputs": _fitted(MultiOutputRegressor(KNeighborsRegressor()), np.stack([TARGET, TARGET], axis=1)),
    "a transformed target": _fitted(TransformedTargetRegressor(KNeighborsRegressor()), TARGET),
    "a search": _fitted(GridSearchCV(_near(), {"n_neighbors": [3]}, cv=2)),
    "calibration": lambda: CalibratedClassifierCV(FrozenEstimator(_near().fit(X, LABELS)), cv=2).fit(X, LABELS),
    "categories of numbers": _fitted(OneHotEncoder(handle_unknown="ignore")),
    "ordinals of numbers": _fitted(OrdinalEncoder()),
}
CELLS_ONLY = {"categories of numbers", "ordinals of numbers"}
"""They sort each column by itself: single values are found, no rows."""
