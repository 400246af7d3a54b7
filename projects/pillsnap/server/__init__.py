"""The server behind `python -m projects.pillsnap.serve`: uploads in, five candidates out."""
