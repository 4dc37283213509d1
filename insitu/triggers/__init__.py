"""From new blobs to runs: when they are a batch, whose work it is, and what became of each."""
