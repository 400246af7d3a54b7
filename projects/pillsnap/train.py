"""`python -m projects.pillsnap.train [overrides]`: train, test and report a pill classifier."""

from shared.entry import train

if __name__ == "__main__":
    train("pillsnap")
