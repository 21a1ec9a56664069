"""Audio and image files: discovery, decoding, encoding, and provenance metadata."""
