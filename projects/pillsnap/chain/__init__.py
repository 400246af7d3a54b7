"""From photo folders to a data set that a manifest vouches for: map classes, integrate, split, manifest.

Each step is a command of `projects.pillsnap`, deterministic and re-runnable. Nothing is imported here, since `split`
needs scikit-learn and `manifest` OpenCV, and the other steps neither.
"""
