"""What each module is worth: switched off in the trained network, and left out of a retrained one."""
