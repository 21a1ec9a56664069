"""The order of the stages, and the command line."""
