"""Data of the spectra project; each part is imported from its own file."""
