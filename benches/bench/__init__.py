"""The benchmark harness: servers beside one another, loaded alike, and a report of what they cost."""
