"""The parts of a heap, each an array with a table: classes, slabs, superslabs, spans, arenas,
threads."""
