"""HAKMEM: a malloc whose brain is Python."""
