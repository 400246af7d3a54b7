"""`python -m projects.spectra.evaluate RUN [overrides]`: test a finished run's network on another data set."""

from shared.evaluate import main

if __name__ == "__main__":
    main("spectra")
