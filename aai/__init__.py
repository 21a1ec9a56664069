"""AAI: sounds into pictures at dataset scale (Align, Adapt and Inject, arXiv 2306.11504)."""

import os

# transformers says at each start that torchvision is not there; Pillow serves as well, and is what we want.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
