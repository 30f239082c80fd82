/* inner.c: what the plugin loads by a name that only its own $ORIGIN finds. */
#include <stdlib.h>

void *inner_make(void) { return malloc(300); }
void inner_take(void *block) { free(block); }
