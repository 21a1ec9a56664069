"""Jobs: requests for pictures."""
