"""`aai evaluate`: methods compared on the same clips, prompts and seeds."""
