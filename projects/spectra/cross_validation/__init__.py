"""Cross-validation over all of a small data set: pooled curves, floors on the same folds, comparison, pages."""
