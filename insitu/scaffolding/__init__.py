"""`insitu init`: a model that runs, from a sample of its data.

    source (where the data is) ──> sample (some of its rows) ──> columns ──> target, features, suite ──> files

Everything is looked at on site. What is written of the data is in the suite and in model.toml, which lie beside it.
"""
