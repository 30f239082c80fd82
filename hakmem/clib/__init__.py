"""The C library from Python: where it is, every signature, the primitives, the crash report."""
