"""Alignment of audio embeddings with the image embedding space."""
