"""Training of the tiny world's models, one module per stage; `python -m aai.tiny.train` runs all stages."""
