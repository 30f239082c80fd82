/* resize.c: blocks of several MiB resized at random; their contents, and how many mappings it
 * takes.
 *
 *   resize BLOCKS LEAST_KIB MOST_KIB STEPS [as|data MIB]
 *
 * Prints the most lines of /proc/self/maps that there were. With a limit, which the program sets on
 * itself once it has its first blocks, a resize may give NULL; the block must be as it was then.
 * Exit 1 with a line on stderr where a block's contents are not.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static uint64_t state = UINT64_C(88172645463325252);
static uint64_t any_below(uint64_t most) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % most;
}

static int count_mappings(void) {
    FILE *file = fopen("/proc/self/maps", "r");
    int lines = 0, c;
    if (!file) return 0; /* under a limit there may be no buffer for it */
    while ((c = getc(file)) != EOF) lines += c == '\n';
    fclose(file);
    return lines;
}

/* A word at each end, and one in the middle of every 256 KiB. */
static void write_block(unsigned char *block, size_t size, unsigned char mark) {
    for (size_t at = 0; at < size; at += 256 << 10) block[at] = mark;
    block[size - 1] = mark;
}
static int holds(const unsigned char *block, size_t size, size_t written, unsigned char mark) {
    for (size_t at = 0; at < size; at += 256 << 10)
        if (block[at] != mark) return 0;
    return size < written || block[written - 1] == mark;
}

int main(int words, char **word) {
    if (words != 5 && words != 7) return 2;
    size_t count = strtoul(word[1], NULL, 10), least = strtoul(word[2], NULL, 10) << 10,
           most = strtoul(word[3], NULL, 10) << 10, steps = strtoul(word[4], NULL, 10);
    unsigned char **blocks = calloc(count, sizeof *blocks);
    size_t *sizes = calloc(count, sizeof *sizes);
    int lines = 0;
    for (size_t i = 0; i < count; i++) {
        sizes[i] = least + any_below(most - least);
        if (!(blocks[i] = malloc(sizes[i]))) return 3;
        write_block(blocks[i], sizes[i], (unsigned char)i);
    }
    if (words == 7) {
        rlim_t bytes = (rlim_t)strtoul(word[6], NULL, 10) << 20;
        struct rlimit limit = {bytes, bytes};
        if (setrlimit(word[5][0] == 'a' ? RLIMIT_AS : RLIMIT_DATA, &limit)) return 4;
    }
    for (size_t step = 0; step < steps; step++) {
        size_t i = any_below(count), size = least + any_below(most - least),
               kept = size < sizes[i] ? size : sizes[i];
        unsigned char *moved = realloc(blocks[i], size), *block = moved ? moved : blocks[i];
        if (!holds(block, moved ? kept : sizes[i], sizes[i], (unsigned char)i)) {
            fprintf(stderr, "step %zu: a block of %zu bytes, resized to %zu, lost its contents\n",
                    step, sizes[i], size);
            return 1;
        }
        blocks[i] = block;
        if (moved) sizes[i] = size, write_block(block, size, (unsigned char)i);
        if (step % 256 == 0) {
            int now = count_mappings();
            if (now > lines) lines = now;
        }
    }
    printf("%d\n", lines);
    return 0;
}
