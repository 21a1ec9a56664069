"""Align: an audio embedding is brought into the image encoder's space."""
