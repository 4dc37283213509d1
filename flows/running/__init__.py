"""Where flows run: server, workers, warm processes, watchers, and what happens to a run whose process died."""
