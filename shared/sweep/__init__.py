"""Sweeps that survive: a ledger of points that any launcher and several machines share."""
