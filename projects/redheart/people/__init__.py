"""Ratings by people: samples for them, agreement of what comes back, calibration with their own state."""
