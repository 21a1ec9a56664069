"""The library hosted on Ray: one module per stage, `stage.py` drives them all, `pool.py` is where Ray is."""
