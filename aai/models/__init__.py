"""Adapters: the only modules that know transformers and diffusers."""
