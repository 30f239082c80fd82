"""Addresses of a process, or of one that has ended, to functions, files and lines."""
