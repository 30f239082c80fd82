/* reports.c: malloc_info, malloc_stats and mallopt in glibc's shapes, over the process heap.
 *
 * All figures are gathered before anything is printed, because a stream may allocate its buffer
 * while it prints. malloc_stats names the parameters that mallopt was given and ignored; where
 * HAKMEM_VERBOSE is set, stderr names each once when it happens.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accounts.h"
#include "hakmem.h"
#include "line.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#pragma GCC visibility push(default)

typedef struct parameter {
    const char *name;
    int number;
} parameter;

static const parameter parameters[] = {
    {"M_MXFAST", M_MXFAST},
    {"M_NLBLKS", M_NLBLKS},
    {"M_GRAIN", M_GRAIN},
    {"M_KEEP", M_KEEP},
    {"M_TRIM_THRESHOLD", M_TRIM_THRESHOLD},
    {"M_TOP_PAD", M_TOP_PAD},
    {"M_MMAP_THRESHOLD", M_MMAP_THRESHOLD},
    {"M_MMAP_MAX", M_MMAP_MAX},
    {"M_CHECK_ACTION", M_CHECK_ACTION},
    {"M_PERTURB", M_PERTURB},
    {"M_ARENA_TEST", M_ARENA_TEST},
    {"M_ARENA_MAX", M_ARENA_MAX},
};
static void say_ignored(const char *name) {
    hak_line line = {.used = 0};
    hak_line_text(&line, "hakmem: mallopt: ");
    hak_line_text(&line, name);
    hak_line_text(&line, " is ignored");
    hak_line_write(&line);
}

static uint32_t asked_mask; /* bit i: parameters[i] was asked for; any > any, relaxed */

/* Returns 1 for a parameter that glibc has; it is ignored, because policy is made in Python. 0 for
 * a number that means nothing. */
int mallopt(int number, int value) {
    (void)value;
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        if (parameters[i].number != number) continue;
        bool first = !(hak_load_relaxed(&asked_mask) >> i & 1);
        hak_store_relaxed(&asked_mask, hak_load_relaxed(&asked_mask) | 1u << i);
        const char *verbose = first ? secure_getenv("HAKMEM_VERBOSE") : NULL;
        if (verbose && *verbose && strcmp(verbose, "0") != 0) say_ignored(parameters[i].name);
        return 1;
    }
    return 0;
}

static struct mallinfo2 gather(hak_accounts *sum) {
    hak_heap *h = hak_process_heap();
    *sum = (hak_accounts){0};
    if (h) hak_accounts_gather(h, sum);
    return hak_accounts_info(sum);
}

void malloc_stats(void) {
    hak_accounts sum;
    struct mallinfo2 info = gather(&sum);
    uint32_t asked = hak_load_relaxed(&asked_mask);
    int saved = errno, state;
    /* glibc's malloc_stats is no cancellation point; stdio is */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    fprintf(stderr,
            "Arena 0:\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
            "Total (incl. mmap):\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
            "mmap regions     = %10zu\nmmap bytes       = %10zu\n",
            info.arena, info.uordblks, info.arena + info.hblkhd, info.uordblks + info.hblkhd,
            info.hblks, info.hblkhd);
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
        if (asked >> i & 1) fprintf(stderr, "mallopt ignored  = %s\n", parameters[i].name);
    pthread_setcancelstate(state, NULL);
    errno = saved;
}

/* Prints the lines that glibc prints for one arena and, with those of mmap, for all of them
 * together. */
static void print_totals(FILE *out, const hak_accounts *sum, const struct mallinfo2 *info,
                         bool all) {
    uint64_t fast = info->fsmblks < info->fordblks ? info->fsmblks : info->fordblks;
    uint64_t most = sum->most > info->arena ? sum->most : info->arena;
    fprintf(out, "<total type=\"fast\" count=\"%zu\" size=\"%" PRIu64 "\"/>\n", info->smblks, fast);
    fprintf(out, "<total type=\"rest\" count=\"%zu\" size=\"%" PRIu64 "\"/>\n", info->ordblks,
            info->fordblks - fast);
    if (all)
        fprintf(out, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", info->hblks,
                info->hblkhd);
    fprintf(out,
            "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%" PRIu64
            "\"/>\n",
            info->arena, most);
    fprintf(out,
            "<aspace type=\"total\" size=\"%" PRIu64
            "\"/>\n<aspace type=\"mprotect\" size=\"%" PRIu64 "\"/>\n",
            sum->committed, sum->committed);
}

/* Prints the free blocks by class, and the free runs as what glibc calls unsorted. */
static void print_sizes(FILE *out, const hak_policy *policy, const hak_accounts *sum) {
    uint64_t from = 1;
    fputs("<sizes>\n", out);
    for (uint32_t class_index = 1; policy && class_index <= policy->sizes.class_count;
         class_index++) {
        uint64_t to = policy->sizes.classes[class_index].capacity_bytes,
                 count = sum->free_count[class_index];
        if (count)
            fprintf(out,
                    "  <size from=\"%" PRIu64 "\" to=\"%" PRIu64 "\" total=\"%" PRIu64
                    "\" count=\"%" PRIu64 "\"/>\n",
                    from, to, count * policy->sizes.classes[class_index].stride_bytes, count);
        from = to + 1;
    }
    if (sum->run_count)
        fprintf(out,
                "  <unsorted from=\"%" PRIu64 "\" to=\"%" PRIu64 "\" total=\"%" PRIu64
                "\" count=\"%" PRIu64 "\"/>\n",
                sum->run_least, sum->run_most, sum->run_bytes, sum->run_count);
    fputs("</sizes>\n", out);
}

/* Prints glibc's XML: one heap, then the sum of all heaps. Returns 0, or EINVAL for options, as
 * glibc does. */
int malloc_info(int options, FILE *out) {
    if (options) return EINVAL;
    hak_accounts sum;
    struct mallinfo2 info = gather(&sum);
    hak_heap *h = hak_process_heap();
    fputs("<malloc version=\"1\">\n<heap nr=\"0\">\n", out);
    print_sizes(out, h ? hak_policy_of(h) : NULL, &sum);
    print_totals(out, &sum, &info, false);
    fputs("</heap>\n", out);
    print_totals(out, &sum, &info, true);
    fputs("</malloc>\n", out);
    return 0;
}
#pragma GCC visibility pop
#endif
