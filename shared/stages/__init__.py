"""The stages of a run, one file each: a function that leaves its result in the session and the run directory."""
