"""Model adapters: the only library modules that import transformers and diffusers models."""
