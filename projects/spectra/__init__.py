"""From a metasurface's structure to its colour-router spectrum."""
