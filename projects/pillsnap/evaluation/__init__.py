"""What a finished run is worth in detail: test fold, stress conditions, open set, retrieval; pages and figures."""
