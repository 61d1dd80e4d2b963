"""What the library computes and how fast, beside others' ways. `make bench`."""
