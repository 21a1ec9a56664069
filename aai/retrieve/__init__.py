"""Retrieve: the images nearest to a clip, from an index."""
