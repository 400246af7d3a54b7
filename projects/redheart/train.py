"""`python -m projects.redheart.train [overrides]`: train, test and report the multi-task network of stories."""

from shared.entry import train

if __name__ == "__main__":
    train("redheart")
