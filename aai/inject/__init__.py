"""Inject: cue vectors in place of word embeddings in a prompt (as in textual inversion)."""
