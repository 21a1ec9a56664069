"""How the tiny world's models are made, a module per stage; `python -m aai.tiny.train` runs them in order."""
