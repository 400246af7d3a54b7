"""Cross-validation over all of a small data set: rounds, pooled predictions, comparison with the floor, pages."""
