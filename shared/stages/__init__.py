"""The stages of a run, one file each: a function of the session that leaves its result there and in the run directory."""
