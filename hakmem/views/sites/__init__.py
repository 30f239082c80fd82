"""Who allocates: a heap's samples added up by call stack, with what each stack pins."""
