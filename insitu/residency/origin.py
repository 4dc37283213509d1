"""Which object of a file holds a leak, as far as the bytes before it say; and what keeps no rows instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

from insitu.residency.index import Bytes

_BEFORE_BYTES = 1 << 20
_NAME_BYTES = 4096
_CLASS = re.compile(rb"\bsklearn\.[a-z_.]+[^A-Za-z]{1,8}([A-Z]\w+)")
_ATTRIBUTE = re.compile(rb"(?:\x8c.|X.\x00\x00\x00)([A-Za-z]\w*_|_\w+)(?=[\x94q(\x8ccK\])}])", re.DOTALL)

_MAKERS = (b"_reconstruct", b"_asarray", b"_frombuffer", b"_codecs", b"_unpickle", b"_core", b"_dtype", b"_pickle")
"""Names of functions by which arrays are made again."""

NO_ROWS = "a model that keeps no rows: "
INSTEAD = {
    "Neighbors": f"{NO_ROWS}HistGradientBoosting with rounded features, or a linear model",
    "SVC": "LinearSVC or SGDClassifier (support vectors are rows)",
    "SVR": "LinearSVR or SGDRegressor (support vectors are rows)",
    "OneClassSVM": "SGDOneClassSVM (support vectors are rows)",
    "GaussianProcess": "BayesianRidge or another model without its training rows",
    "KernelRidge": "Ridge on RBFSampler features",
    "Nystroem": "RBFSampler (its components are drawn, not rows)",
    "KNNImputer": "SimpleImputer or IterativeImputer",
    "OneHotEncoder": "no identifier among the columns, or min_frequency for the rare categories",
    "OrdinalEncoder": "no identifier among the columns, or min_frequency for the rare categories",
    "TargetEncoder": "no identifier among the columns: group its rare categories before",
    "LabelEncoder": "classes that many records share",
    "LabelBinarizer": "classes that many records share",
    "Birch": "KMeans or MiniBatchKMeans",
    "AffinityPropagation": "KMeans or MiniBatchKMeans",
    "MeanShift": "KMeans or MiniBatchKMeans",
    "DBSCAN": "KMeans or MiniBatchKMeans, or a model fitted to the labels",
    "OPTICS": "KMeans or MiniBatchKMeans, or a model fitted to the labels",
    "Isomap": "PCA",
    "LocallyLinearEmbedding": "PCA",
    "SpectralEmbedding": "PCA",
    "KernelPCA": "PCA on RBFSampler features",
    "LocalOutlierFactor": "IsolationForest",
    "KernelDensity": "GaussianMixture",
    "LabelPropagation": "a classifier fitted to the propagated labels",
    "LabelSpreading": "a classifier fitted to the propagated labels",
    "HistGradientBoosting": "features rounded to a few digits before fit: bin edges are their values",
    "RandomForestRegressor": "min_samples_leaf of 10 or more: a leaf of one record holds its label",
    "ExtraTreesRegressor": "min_samples_leaf of 10 or more: a leaf of one record holds its label",
    "DecisionTree": "min_samples_leaf of 10 or more: a leaf of one record holds its label",
    "QuantileTransformer": "PowerTransformer or StandardScaler (quantiles are values)",
    "KBinsDiscretizer": 'strategy="uniform", or features rounded before fit',
    "SplineTransformer": "knots that you name, or features rounded before fit",
    "MinMaxScaler": "StandardScaler (extremes are values)",
    "MaxAbsScaler": "StandardScaler (extremes are values)",
    "IsotonicRegression": 'a sigmoid, as CalibratedClassifierCV(method="sigmoid") fits',
}
"""By the beginning or the end of an estimator's name."""

ANYTHING = f"{NO_ROWS}drop identifiers, and objects such as data frames, from what is saved"


@dataclass(frozen=True)
class Origin:
    """The estimator and the attribute before the bytes of a find; either may be unknown."""

    estimator: str | None
    attribute: str | None


def origin_at(data: Bytes, offset: int) -> Origin | None:
    """Return what is named last before *offset*; None where nothing is."""
    before = data[max(0, offset - _BEFORE_BYTES) : max(0, offset)].tobytes()
    kinds = [kind.decode() for kind in reversed(_CLASS.findall(before))]
    names = [name.decode() for name in reversed(_ATTRIBUTE.findall(before[-_NAME_BYTES:])) if name not in _MAKERS]
    if not kinds and not names:
        return None
    # What holds the array may be a part that has no advice of its own: a kernel, a link, a tree.
    advised = [kind for kind in kinds if any(part in kind for part in INSTEAD)]
    return Origin(next(iter([*advised, *kinds]), None), next(iter(names), None))


def instead_of(estimator: str | None) -> str:
    """Return what to use in place of an estimator that keeps values of the data."""
    name = estimator or ""
    fitting = [advice for part, advice in INSTEAD.items() if part in name]
    return fitting[0] if fitting else ANYTHING
