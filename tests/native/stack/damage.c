/* damage.c: stacks that were overwritten, and such as never end. */
#include "stacks.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#define PAGE 4096u

static library silent, framed;
static char *fence; /* behind the coroutine's stack */
static char *holes; /* a page that may be read between two that may not, and one more above */

/* The frame record of who called this function's caller: saved frame pointer, return address. */
#define RECORD_OF_CALLER() (*(uint64_t **)__builtin_frame_address(0))

/* --- one word changed ------------------------------------------------------------------------- */

typedef struct damage {
    const library *lib;
    uint64_t words[40],
        ends[40]; /* a frame pointer or return address, and how many frames remain */
    uint32_t count;
    bool of_return; /* the return address is changed, not the frame pointer */
} damage;

/* Keeps frame pointers, as the chain does. */
__attribute__((noinline, optimize("no-omit-frame-pointer"))) void spoil(void *with) {
    damage *d = with;
    uint64_t *record = RECORD_OF_CALLER();
    for (uint32_t i = 0; i < d->count; i++) {
        uint64_t frames[MOST], kept[2] = {record[0], record[1]};
        record[d->of_return] = d->words[i] == 1 ? (uintptr_t)record : d->words[i];
        uint32_t count = stack_take(frames, MOST);
        record[0] = kept[0], record[1] = kept[1];
        if (count < 2 || !is_in(frames[0], spoil) || !is_in(frames[1], d->lib->third))
            wrong("expected the frames before the damage", i);
        if (count > MOST || (d->ends[i] && count != d->ends[i]))
            wrong("expected the walk to end at the damage", (uint64_t)i << 32 | count);
    }
    KEEP(d);
}

static void add(damage *d, uint64_t word, uint64_t end) {
    d->words[d->count] = word;
    d->ends[d->count++] = end;
}

static void *damage_all(void *unused) {
    uint64_t here = (uintptr_t)__builtin_frame_address(0);
    damage frame = {.lib = &silent}, back = {.lib = &silent, .of_return = true};
    /* 1 stands for the record itself: an endless loop. */
    const uint64_t frames[] = {0,
                               1,
                               8,
                               here & PAGE,
                               here - (1 << 20),
                               here + 1,
                               here + 4,
                               (uintptr_t)holes,
                               (uintptr_t)holes + PAGE,
                               (uintptr_t)holes + 8188,
                               UINT64_MAX,
                               UINT64_MAX - 7,
                               UINT64_C(1) << 63,
                               (uintptr_t)malloc,
                               0x7fffffffeff8,
                               here + (UINT64_C(1) << 40)};
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) add(&frame, frames[i], 3);
    if (fence) add(&frame, (uintptr_t)fence + 8, 3);
    add(&frame, here, 0); /* a frame further up: some are left out */
    silent.first(spoil, &frame, 5);
    const uint64_t returns[] = {0, 1 << 11, UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 56};
    for (size_t i = 0; i < sizeof returns / sizeof *returns; i++) add(&back, returns[i], 2);
    const uint64_t codes[] = {here,
                              (uintptr_t)holes,
                              (uintptr_t)holes + PAGE,
                              (uintptr_t)malloc,
                              (uintptr_t)printf + 9,
                              (uintptr_t)&back,
                              (uintptr_t)damage_all};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) add(&back, codes[i], 0);
    silent.first(spoil, &back, 5);
    back.lib = frame.lib = &framed;
    framed.first(spoil, &back,
                 5); /* here tables lead over the chain: what they say is checked too */
    memset(frame.ends, 0, sizeof frame.ends);
    framed.first(spoil, &frame, 5);
    KEEP(unused);
    return NULL;
}

static ucontext_t outside, inside;
static void damaged_coroutine(void) { damage_all(NULL); }
/* Between two fences. */
static void *run_damaged_coroutine(void *unused) {
    size_t bytes = 64 << 10;
    holes = mmap(NULL, bytes + 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(holes + PAGE, PAGE, PROT_READ | PROT_WRITE);
    mprotect(holes + 3 * PAGE, bytes, PROT_READ | PROT_WRITE);
    fence = holes + 3 * PAGE + bytes;
    getcontext(&inside);
    inside.uc_stack.ss_sp = holes + 3 * PAGE;
    inside.uc_stack.ss_size = bytes;
    inside.uc_link = &outside;
    makecontext(&inside, damaged_coroutine, 0);
    swapcontext(&outside, &inside);
    return unused;
}

static void run_thread(void *(*body)(void *)) {
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    if (pthread_create(&thread, &attributes, body, NULL)) wrong("no thread", 0);
    pthread_join(thread, NULL);
}

/* On a coroutine's stack, mostly just below the thread's own: of a thread that never walked before,
 * so that nothing is known of its own stack, and of the first one; and on own stacks. */
void damaged_case(void) {
    silent = open_library("chain_silent");
    framed = open_library("chain_framed");
    run_thread(run_damaged_coroutine);
    run_damaged_coroutine(NULL);
    damage_all(NULL);
    run_thread(damage_all);
}

/* --- chains without an end -------------------------------------------------------------------- */

typedef struct fake {
    uint64_t *words;
    uint32_t count, found;
    bool ends_in_code;
} fake;

/* Hangs the words behind the visitor's caller, as its frame. */
__attribute__((noinline, optimize("no-omit-frame-pointer"))) void hang(void *with) {
    fake *f = with;
    uint64_t *record = RECORD_OF_CALLER(), kept = record[0], frames[MOST];
    record[0] = (uintptr_t)f->words;
    f->found = stack_take(frames, MOST);
    record[0] = kept;
    if (f->found < 3 || !is_in(frames[1], silent.third))
        wrong("expected the first frames", f->found);
    KEEP(f);
}

NOINLINE void endless_case(void) {
    silent = open_library("chain_silent");
    /* no object's: as code that was made at run time */
    char *code = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t words[4096];
    for (size_t i = 0; i + 2 <= sizeof words / sizeof *words; i += 2) {
        words[i] = (uintptr_t)&words[i + 2];
        words[i + 1] = (uintptr_t)code + i % PAGE;
    }
    fake f = {.words = words};
    silent.first(hang, &f, 5);
    if (f.found != MOST) wrong("expected as many frames as are taken", f.found);
    words[20] = (uintptr_t)words;
    silent.first(hang, &f, 5);
    if (f.found != 3 + 11) wrong("expected the end where the chain goes back", f.found);
}

/* --- anything --------------------------------------------------------------------------------- */

static uint64_t state = 88172645463325252u;
static uint64_t draw(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

/* A word that a walk might take for something. */
static uint64_t draw_word(const uint64_t *words, uint32_t count) {
    const uint64_t codes[] = {(uintptr_t)malloc,       (uintptr_t)qsort, (uintptr_t)framed.first,
                              (uintptr_t)silent.first, (uintptr_t)hang,  (uintptr_t)stack_take,
                              (uintptr_t)raise};
    switch (draw() % 8) {
    case 0: return draw();
    case 1: return draw() % 4096;
    case 2: return (uintptr_t)holes + draw() % (4 * PAGE);
    case 3:
    case 4: return (uintptr_t)&words[draw() % count];
    default: return codes[draw() % (sizeof codes / sizeof *codes)] + draw() % 300;
    }
}

static void *random_walks(void *unused) {
    uint64_t words[2048];
    for (int round = 0; round < 3000; round++) {
        for (size_t i = 0; i < 2048; i++) words[i] = draw_word(words, 2048);
        for (int start = 0; start < 16; start++) {
            fake f = {.words = &words[draw() % 2048]};
            silent.first(hang, &f, 5);
            if (f.found > MOST) wrong("expected at most as many frames", f.found);
        }
    }
    KEEP(unused);
    return NULL;
}

/* Words of all kinds instead of a stack: a walk over them ends, and touches nothing else. */
void random_case(void) {
    silent = open_library("chain_silent");
    framed = open_library("chain_framed");
    holes = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    random_walks(NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, random_walks, NULL)) wrong("no thread", 0);
    pthread_join(thread, NULL);
}
