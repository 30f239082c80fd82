"""Showing: arrays and sentences as text, as HTML, in colour. Knows nothing of heaps."""
