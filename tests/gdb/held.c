/* Holds blocks of three kinds, prints where they are, and waits for a line: "abort" makes a core.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct order {
    int id;
    char name[92];
};

struct order *kept;
struct order given;
void *freed, *span;

static void stop_here(void) { __asm__ volatile(""); }

int main(void) {
    for (int count = 0; count < 1000; count++) {
        kept = malloc(sizeof *kept);
        memset(kept, 1, sizeof *kept);
    }
    span = malloc(1 << 20);
    freed = malloc(5000);
    free(freed);
    printf("%p %p %p %p\nready\n", (void *)kept, freed, span, (void *)&given);
    fflush(stdout);
    char line[16];
    int ends = fgets(line, sizeof line, stdin) == NULL || strcmp(line, "abort\n") != 0;
    stop_here();
    if (!ends) abort();
    return 0;
}
