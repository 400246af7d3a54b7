"""Callbacks of a run; each file says what it decides, when it acts and what it saves."""
