"""Training and evaluation of aligners: pairs from files, vectors from a workspace, and what comes out as a folder."""
