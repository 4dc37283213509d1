"""Expectation suites, as data, and the engine that checks a batch against one in a single pass."""
