"""Image editing and stylisation with cues: Prompt-to-Prompt attention control, inversion of photos, compositing."""
