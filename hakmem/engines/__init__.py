"""What a plane must do, the native plane as such an engine, and the process's own heap."""
