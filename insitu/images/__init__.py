"""Assembling, reading and publishing OCI images, without a daemon."""
