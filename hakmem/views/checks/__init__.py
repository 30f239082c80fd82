"""What must hold of a whole heap, checked."""
