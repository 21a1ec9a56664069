"""Retrieve: the FAISS index of image vectors, and the choice of a clip's neighbours."""
