"""Answers to questions: what is at an address, what pins memory, what changed, what the figures
are."""
