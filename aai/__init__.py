"""AAI: sounds into pictures at dataset scale (Align, Adapt and Inject, arXiv 2306.11504)."""
