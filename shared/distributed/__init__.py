"""Training on several devices of one machine: our own processes, one share of each batch for each of them.

Import from the files themselves: `plan` and `share` need no torch, and everybody who reads a configuration takes them.
"""
