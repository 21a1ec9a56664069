"""Comparison of methods: metrics of sets and of edits, and intervals that respect clips. Numbers in, numbers out."""
