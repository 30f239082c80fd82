/* policy.h: the bounds of a policy image's fields, and the environment variables that change them.
 *
 * hakmem/policy/emit.py prints both tables from hakmem/layout.py. policy.c judges and reads images;
 * environment.c puts the process's policy together.
 */
#ifndef HAK_POLICY_H
#define HAK_POLICY_H
#include <stdbool.h>

#include "hak_layout.h"

/* The bounds of one field of hak_policy, low..high in steps; with a stride, of that field in every
 * class. */
typedef struct hak_bound {
    const char *path;
    uint32_t offset, width, stride;
    uint64_t low, high, step;
    bool fixed; /* a running heap keeps it */
} hak_bound;

/* One environment variable; the docstring of Variable in layout.py says what the fields mean. */
typedef struct hak_variable {
    const char *name;
    const char *const *choices; /* NULL: a number; else words, NULL ends */
    const struct hak_variable *at_most;
    uint64_t low, high, numerator, denominator;
    uint32_t offset, width, apply, band;
    /* HAK_APPLY_CACHE_BYTES: bounds of a cap in blocks, the lower one for a bound above 0 */
    uint32_t entries_least, entries_most;
} hak_variable;

/* Why an image is refused: `what` alone, or with the number that was found and those allowed. */
typedef struct hak_refusal {
    const char *what;
    uint32_t class_index; /* 0: of no class */
    bool numbers;
    uint64_t found, low, high, step;
} hak_refusal;

extern const uint64_t hak_builtin_policy_words[];
extern const hak_bound hak_bounds[];
extern const uint32_t hak_bound_count;
extern const hak_variable hak_variables[HAK_VARIABLE_COUNT];

#define HAK_POLICY_HIDDEN __attribute__((visibility("hidden")))
/* Whether C can obey the image; if not, *why says why. */
HAK_POLICY_HIDDEN bool hak_policy_judge(const hak_policy *p, hak_refusal *why);
HAK_POLICY_HIDDEN uint64_t hak_policy_checksum(const hak_policy *p);
/* Reads an image file. If it cannot be obeyed, says why in one line and returns false. */
HAK_POLICY_HIDDEN bool hak_policy_read(hak_policy *p, const char *path);
/* The policy of the process heap, or NULL for the built-in one. Called once, before the heap is
 * made. */
HAK_POLICY_HIDDEN const hak_policy *hak_policy_of_process(void);
static inline uint64_t hak_field_get(const hak_policy *p, uint32_t offset, uint32_t width) {
    const char *at = (const char *)p + offset;
    return width == sizeof(uint64_t)   ? *(const uint64_t *)at
           : width == sizeof(uint32_t) ? *(const uint32_t *)at
                                       : *(const uint16_t *)at;
}
#endif
