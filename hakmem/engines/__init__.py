"""Engines: what a plane must do, how the native plane does it, and the process heap's engine."""
