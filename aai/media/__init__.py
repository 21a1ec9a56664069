"""Files that come in: sounds, images, where they lie, and the provenance that goes out with pictures."""
