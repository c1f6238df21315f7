"""Benchmarks: cost of contimg beside that of the usual tools, by `make bench`."""
