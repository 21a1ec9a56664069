"""The tiny world: procedural scenes and sounds with known ground truth, and small models trained on them.

vocabulary   phenomena, backgrounds, and captions
scenes       rendering of 64 x 64 images
sounds       synthesis of 5 s clips
judge        an independent image classifier
train        training of all models from scratch
score        evaluation
"""
