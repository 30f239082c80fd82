/* environment.c: the policy of the process heap: the built-in image or the one that HAKMEM_POLICY
 * names, changed by one variable after the other. Called once, by the first malloc, which may come
 * from the dynamic loader.
 *
 * A variable wins over the image, the image over the built-in one. A bad value is reported in one
 * line and changes nothing. A process that has more rights than its caller takes nothing from the
 * caller's environment.
 */
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>

#include "hak_internal.h"
#include "line.h"
#include "policy.h"

#define PREFIX "HAKMEM_"
#define POLICY_FILE "POLICY"

extern char **environ;
/* the dynamic loader's: where the kernel put */
extern void *__libc_stack_end __attribute__((weak));

/* libc sets `environ` in its own constructor, but the dynamic loader may call malloc before
 * that. */
static char **environment(void) {
    static char *none[1];
    if (environ) return environ;
    if (!&__libc_stack_end || !__libc_stack_end) return none;
    const uintptr_t *argc = __libc_stack_end;
    return (char **)(argc + 1 + *argc + 1);
}

/* The text behind "HAKMEM_<name>=" in an entry, or NULL. `name` comes without the prefix. */
static const char *value_in(const char *entry, const char *name) {
    size_t prefix = sizeof PREFIX - 1, n = strlen(name);
    if (strncmp(entry, PREFIX, prefix) != 0 || strncmp(entry + prefix, name, n) != 0) return NULL;
    return entry[prefix + n] == '=' ? entry + prefix + n + 1 : NULL;
}

static const char *value_of(char **entries, const char *name) {
    for (; *entries; entries++) {
        const char *value = value_in(*entries, name);
        if (value) return *value ? value : NULL; /* an empty value counts as not set */
    }
    return NULL;
}

static bool parse(const hak_variable *v, const char *text, uint64_t *value) {
    *value = 0;
    if (v->choices) {
        while (v->choices[*value] && strcmp(v->choices[*value], text) != 0) ++*value;
        return v->choices[*value] != NULL;
    }
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        *value = *value * 10 + (uint64_t)(*text - '0');
        if (*value > v->high) return false;
    }
    return *value >= v->low;
}

static void say_bad(const hak_variable *v, const char *text) {
    hak_line line = {.used = 0};
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, v->name);
    hak_line_byte(&line, '=');
    hak_line_quote(&line, text);
    hak_line_text(&line, v->choices ? ": expected one of " : ": expected a whole number from ");
    for (uint32_t i = 0; v->choices && v->choices[i]; i++)
        hak_line_text(&line, i ? ", " : ""), hak_line_text(&line, v->choices[i]);
    if (!v->choices)
        hak_line_number(&line, v->low), hak_line_text(&line, " to "),
            hak_line_number(&line, v->high);
    hak_line_text(&line, "; ignored");
    hak_line_write(&line);
}

static void field_set(hak_policy *p, const hak_variable *v, uint64_t value) {
    char *at = (char *)p + v->offset;
    if (v->width == sizeof(uint64_t)) *(uint64_t *)at = value;
    else *(uint32_t *)at = (uint32_t)value;
}

/* Sets the caps of a class from a bound in bytes, as CachePolicy.class_cache does. */
static void set_caps(hak_cache_class *cache, const hak_class *class, const hak_variable *v,
                     uint64_t bytes) {
    uint64_t most = bytes / class->stride_bytes;
    if (most > v->entries_most) most = v->entries_most;
    if (bytes && most < v->entries_least) most = v->entries_least;
    cache->cap_max_count = (uint32_t)most;
    uint32_t first = class->band == HAK_BAND_BIG ? 0 : 2 * cache->batch_count;
    cache->cap_init_count = first < most ? first : (uint32_t)most;
}

/* Sets the header mode. Header bytes change what fits into a block and where the first block
 * starts, as in SizeClassMap.to_struct. */
static void set_headers(hak_policy *p, uint32_t mode) {
    uint32_t first = 0, big = HAK_SIZE_MAP_LIMIT_BYTES >> HAK_BIG_MAP_SHIFT;
    p->headers.mode = mode;
    memset(p->sizes.size_map, 0, sizeof p->sizes.size_map);
    memset(p->sizes.big_map, 0, sizeof p->sizes.big_map);
    for (uint32_t class_index = 1; class_index <= p->sizes.class_count; class_index++) {
        hak_class *class = &p->sizes.classes[class_index];
        class->header = mode == HAK_HEADERS_ALL ||
                        (mode == HAK_HEADERS_TINY && class->band == HAK_BAND_TINY);
        class->capacity_bytes = class->stride_bytes - class->header;
        class->start_bytes = class->header ? HAK_BLOCK_ALIGN_BYTES : 0;
        class->block_count = ((class->unit_count << HAK_UNIT_SHIFT) - class->start_bytes) /
                             class->stride_bytes;
        for (; first < HAK_SIZE_MAP_ENTRIES &&
               first << HAK_SIZE_GRANULE_SHIFT <= class->capacity_bytes;
             first++)
            p->sizes.size_map[first] = (uint8_t)class_index;
        for (; (big + 1) << HAK_BIG_MAP_SHIFT <= class->capacity_bytes; big++)
            p->sizes.big_map[big + 1] = (uint8_t)class_index;
        p->sizes.size_limit_bytes = class->capacity_bytes;
    }
}

static void apply(hak_policy *p, const hak_variable *v, uint64_t value) {
    value = value * v->numerator / v->denominator;
    if (v->apply == HAK_APPLY_FIELD) field_set(p, v, value);
    if (v->apply == HAK_APPLY_HEADERS) set_headers(p, (uint32_t)value);
    for (uint32_t class_index = 1; class_index <= p->sizes.class_count; class_index++) {
        if (p->sizes.classes[class_index].band != v->band) continue;
        if (v->apply == HAK_APPLY_REFILL_SLABS)
            p->caches.classes[class_index].refill_slabs = (uint32_t)value;
        if (v->apply == HAK_APPLY_CACHE_BYTES)
            set_caps(&p->caches.classes[class_index], &p->sizes.classes[class_index], v, value);
    }
}

/* The value of one variable. Where the variable is not set, the image's field is in force. */
typedef struct setting {
    bool is_set;
    uint64_t value;
} setting;

static setting read_one(char **entries, const hak_variable *v) {
    setting made = {false, 0};
    const char *text = value_of(entries, v->name + sizeof PREFIX - 1);
    if (!text) return made;
    made.is_set = parse(v, text, &made.value);
    if (!made.is_set) say_bad(v, text);
    return made;
}

static uint64_t in_force(const hak_policy *base, const hak_variable *v, const setting *its) {
    return its->is_set ? its->value
                       : hak_field_get(base, v->offset, v->width) * v->denominator / v->numerator;
}

/* Two variables that contradict each other are both ignored. */
static void keep_order(const hak_policy *base, setting *settings, uint32_t i) {
    const hak_variable *v = &hak_variables[i], *most = v->at_most;
    setting *own = &settings[i], *bound = &settings[most - hak_variables];
    uint64_t mine = in_force(base, v, own), limit = in_force(base, most, bound);
    if (mine <= limit) return;
    own->is_set = bound->is_set = false;
    hak_line line = {.used = 0};
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, v->name);
    hak_line_byte(&line, '=');
    hak_line_number(&line, mine);
    hak_line_text(&line, ": expected at most ");
    hak_line_text(&line, most->name);
    hak_line_text(&line, ", which is ");
    hak_line_number(&line, limit);
    hak_line_text(&line, "; both ignored");
    hak_line_write(&line);
}

static const hak_policy *put_together(void) {
    static hak_policy made;
    setting settings[HAK_VARIABLE_COUNT];
    char **entries = environment();
    const char *path = value_of(entries, POLICY_FILE);
    const hak_policy *base =
        path && hak_policy_read(&made, path) ? &made : (const hak_policy *)hak_builtin_policy_words;
    for (uint32_t i = 0; i < HAK_VARIABLE_COUNT; i++)
        settings[i] = read_one(entries, &hak_variables[i]);
    for (uint32_t i = 0; i < HAK_VARIABLE_COUNT; i++)
        if (hak_variables[i].at_most) keep_order(base, settings, i);
    for (uint32_t i = 0; i < HAK_VARIABLE_COUNT; i++) {
        if (!settings[i].is_set) continue;
        if (base != &made) made = *base;
        base = &made;
        apply(&made, &hak_variables[i], settings[i].value);
    }
    if (base != &made) return NULL;
    made.checksum = hak_policy_checksum(&made);
    return &made;
}

const hak_policy *hak_policy_of_process(void) {
    int saved = errno;
    const hak_policy *made = getauxval(AT_SECURE) ? NULL : put_together();
    errno = saved;
    return made;
}
