/* needed.c: a library that the plugin needs; it allocates before anybody can mend its entries. */
#include <stdlib.h>
#include <string.h>

char *needed_early;

__attribute__((constructor)) static void begin(void) { needed_early = strdup("needed"); }
__attribute__((destructor)) static void end(void) { free(needed_early); }
