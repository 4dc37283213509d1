"""Proves that no record leaves: everything is opened, fingerprinted and scanned on site."""
