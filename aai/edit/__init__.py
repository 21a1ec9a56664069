"""Edit and stylise: pictures made from a source image."""
