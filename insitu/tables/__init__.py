"""The pinned blobs of a batch as one Arrow table: Parquet, CSV and JSON Lines, read by range."""
