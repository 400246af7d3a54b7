"""Photos of pills as folds: the chain's data sets, and the NIH reference photographs."""
