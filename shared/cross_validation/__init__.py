"""Cross-validation by runs of the engine: rounds that are found again, and their test folds put together."""
