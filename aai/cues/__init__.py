"""Adapt: aligned embeddings become AudioCues."""
