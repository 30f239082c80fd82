"""Heaps copied once and for all: frozen, saved to a file, loaded, and checked while loading."""
