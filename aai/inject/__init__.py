"""Inject: cues stand in prompts."""
