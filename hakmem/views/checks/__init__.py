"""Checks of a whole heap: what must hold, and whether it does."""
