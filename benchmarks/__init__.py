"""What contimg costs, measured against the way that one would do it otherwise: `make bench`."""
