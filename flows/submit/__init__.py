"""Submitting a command of `aai` to a cluster: one file from a template, checked, and handed to the target's program."""
