"""`python -m projects.spectra.train [overrides]`: train, test and report a spectra network."""

from shared.entry import train

if __name__ == "__main__":
    train("spectra")
