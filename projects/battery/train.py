"""`python -m projects.battery.train [overrides]`: train, test and report a battery network."""

from shared.entry import train

if __name__ == "__main__":
    train("battery")
