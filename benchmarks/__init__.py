"""What is computed once, measured against computing it again. `make bench`."""
