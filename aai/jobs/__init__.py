"""Jobs: which pictures are wanted."""
