/* stacks.c: stacks of known calls, walked inside the library and compared frame by frame: with the
 * functions that were called, and with glibc's backtrace. `stacks CASE`; exit 0, else a line. */
#include "stacks.h"

#include <errno.h>
#include <libgen.h>
#include <unistd.h>

const char *case_name = "?";

void wrong(const char *what, uint64_t found) {
    fprintf(stderr, "stacks: %s: %s, found %#llx\n", case_name, what, (unsigned long long)found);
    _exit(1);
}

NOINLINE void look(void *with) {
    taken *t = with;
    errno = EXDEV;
    t->count = stack_take(t->frames, MOST);
    if (errno != EXDEV) wrong("expected errno as it was", (uint64_t)errno);
    if (t->other_count >= 0) t->other_count = backtrace(t->others, MOST);
    KEEP(t);
}

bool is_in(uint64_t frame, const void *function) {
    Dl_info about;
    return dladdr((void *)(frame - 1), &about) && about.dli_saddr == function;
}

void expect(const taken *t, const void *const *functions) {
    uint32_t i = 0;
    for (; functions[i]; i++) {
        if (i >= t->count) wrong("expected more frames", t->count);
        if (!is_in(t->frames[i], functions[i])) {
            Dl_info about = {0};
            dladdr((void *)(t->frames[i] - 1), &about);
            fprintf(stderr, "stacks: frame %u is in %s\n", i,
                    about.dli_sname ? about.dli_sname : "?");
            wrong("expected another function", i);
        }
    }
}

static void show(const taken *t) {
    for (int i = 0; i < (int)t->count || i < t->other_count; i++) {
        Dl_info about = {0};
        uint64_t frame = i < (int)t->count ? t->frames[i] : 0;
        dladdr((void *)(frame - 1), &about);
        fprintf(stderr, "%2d %#16llx %#16llx %s\n", i, (unsigned long long)frame,
                i < t->other_count ? (unsigned long long)(uintptr_t)t->others[i] : 0,
                about.dli_sname ? about.dli_sname : "?");
    }
}

void expect_same(const taken *t) {
    int more = 0; /* a sanitizer's wrapper of backtrace is in front */
    while (more < 2 && (void *)t->frames[1] != t->others[more + 1]) more++;
    bool same = (int)t->count == t->other_count - more;
    for (uint32_t i = 1; same && i < t->count; i++)
        same = (void *)t->frames[i] == t->others[(int)i + more];
    if (same) return;
    show(t);
    wrong("expected what glibc finds", t->count);
}

library open_library(const char *name) {
    char path[4096], self[4096] = {0};
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) wrong("no path", 0);
    snprintf(path, sizeof path, "%s/%s.so", dirname(self), name);
    library lib = {.handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL)};
    if (!lib.handle) wrong(dlerror(), 0);
    lib.first = (chain *)(uintptr_t)dlsym(lib.handle, "chain_first");
    lib.second = (chain *)(uintptr_t)dlsym(lib.handle, "chain_second");
    lib.third = (chain *)(uintptr_t)dlsym(lib.handle, "chain_third");
    return lib;
}

NOINLINE void check_chain(const library *lib, const void *caller) {
    taken t = {.other_count = 0};
    lib->first(look, &t, 5);
    const void *const called[] = {look,        lib->third, lib->second, lib->first,
                                  check_chain, caller,     NULL};
    expect(&t, called);
    expect_same(&t);
}

/* --- what compilers make ---------------------------------------------------------------------- */

NOINLINE void chain_case(const char *name) {
    library lib = open_library(name);
    for (int round = 0; round < 3; round++) check_chain(&lib, chain_case);
    dlclose(lib.handle);
}

/* No tables, but frame pointers: they lead over the three frames, tables on from there. */
NOINLINE void silent_case(void) {
    library lib = open_library("chain_silent");
    taken t = {.other_count = -1};
    lib.first(look, &t, 5);
    const void *const called[] = {look, lib.third, lib.second, lib.first, silent_case, NULL};
    expect(&t, called);
}

/* Neither: the frames up to the first such function, then whatever a frame pointer leads to. */
NOINLINE void mute_case(void) {
    library lib = open_library("chain_mute");
    taken t = {.other_count = -1};
    lib.first(look, &t, 5);
    const void *const called[] = {look, lib.third, NULL};
    expect(&t, called);
}

static taken through;
static int compare(const void *a, const void *b) {
    if (!through.count) look(&through);
    return *(const int *)a - *(const int *)b;
}
/* A callback of the C library, whose frames have no names. */
NOINLINE void callback_case(void) {
    int numbers[] = {3, 1, 2};
    qsort(numbers, 3, sizeof *numbers, compare);
    KEEP(numbers);
    expect_same(&through);
    uint32_t place = 0;
    while (place < through.count && !is_in(through.frames[place], callback_case)) place++;
    if (place < 2 || place + 2 > through.count) wrong("expected this function below qsort", place);
}

NOINLINE uint64_t recurse(uint32_t depth, taken *t) {
    uint64_t room[3] = {depth};
    KEEP(room);
    if (depth) room[1] = recurse(depth - 1, t);
    else look(t);
    KEEP(room);
    return room[1] + 1;
}
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DEPTH 5000 /* larger frames */
#else
#define DEPTH 50000
#endif
/* Deeper than is taken: all that is taken is right. */
NOINLINE void deep_case(void) {
    taken t = {.other_count = -1};
    recurse(DEPTH, &t);
    if (t.count != MOST) wrong("expected as many frames as are taken", t.count);
    for (uint32_t i = 1; i < t.count; i++)
        if (!is_in(t.frames[i], recurse)) wrong("expected the same function", i);
    uint64_t few[4] = {0, 0, 0, 1};
    if (stack_take(few, 3) != 3 || few[3] != 1) wrong("expected three frames", few[3]);
    if (stack_take(few, 0) != 0) wrong("expected none", few[0]);
}

/* --- all -------------------------------------------------------------------------------------- */

static void all_chains(void) {
    chain_case("chain_bare");
    chain_case("chain_framed");
    chain_case("chain_large");
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"chains", all_chains},          {"silent", silent_case},   {"mute", mute_case},
    {"callback", callback_case},     {"deep", deep_case},       {"threads", threads_case},
    {"coroutines", coroutines_case}, {"handler", handler_case}, {"children", children_case},
    {"damaged", damaged_case},       {"endless", endless_case}, {"random", random_case},
    {"stepped", stepped_case},       {"quiet", quiet_case},     {"reloaded", reloaded_case},
    {"storm", storm_case},           {"cost", cost_case},
};

int main(int count, char **words) {
    void *first[MOST];
    backtrace(first, MOST); /* loads what it needs */
    for (size_t i = 0; i < sizeof cases / sizeof *cases && count == 2; i++)
        if (strcmp(words[1], cases[i].name) == 0) {
            case_name = words[1];
            cases[i].run();
            return 0;
        }
    fprintf(stderr, "usage: stacks CASE\n");
    return 2;
}
