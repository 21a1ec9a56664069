"""The tiny world: procedural scenes and sounds whose truth is known, and small models trained on them.

vocabulary   what there is to see and hear, and how captions say it
scenes       64 x 64 pictures
sounds       5 s clips
judge        an independent reader of pictures
train        makes every model from nothing
score        measures them
"""
