"""insitu: retrain models where the data lives."""

__version__ = "0.1.0"
