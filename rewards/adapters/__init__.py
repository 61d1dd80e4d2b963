"""The rewards in other people's trainers: a file for each framework, which alone imports it.

`python -m rewards.adapters NAME` prints the path of a file and the line of configuration that takes it.
"""
