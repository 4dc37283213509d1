"""What the benches share: data, a place to keep it, processes that are watched, a counting proxy."""
