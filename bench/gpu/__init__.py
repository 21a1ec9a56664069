"""What a GPU shows: every stage with a model, beside the plain libraries and the model alone. `make bench-gpu`."""
