/* stack.c: who called: the native stack of the calling thread, walked inside malloc.
 *
 * From frame to frame by what .eh_frame says (eh_frame.c), where it says nothing (code that a JIT
 * compiler made) by frame pointers. It takes no lock, allocates nothing, keeps errno, and calls
 * nobody but _dl_find_object, once for each time that the walk goes over to another object. So it
 * may run in a malloc, in a signal handler over another walk, and in a fork's child.
 *
 * What is found for a return address is kept as one word, its rule, in a table of all threads:
 * then a frame costs a look there and two loads. A slot holds the rule and, as its key, the mixed
 * address XOR the rule. Two threads, or a handler over a walk, may write one slot at a time: a
 * mixed address that was not written with that rule does not come out of such a pair, so that the
 * slot counts as empty.
 *
 * A rule carries a hash of the object that it was made for: its place, its .eh_frame's, its build
 * id. Code unloaded, and other code loaded at its address, has another one. Where two have the same
 * (1 in 2^28, or no build ids and the same size), or a stack is damaged, a frame may be wrong;
 * every read is checked by stack_range.c, the stack pointer only rises but at a signal handler's
 * return, and frames are counted: a walk ends.
 */
#include "stack.h"

typedef struct place {
    hak_object object;
    uint64_t hash; /* of it, above the fields of a rule */
} place;
typedef struct walk {
    uint64_t registers[HAK_REG_COUNT];
    hak_stack_range range;
    place at;                     /* the object that the last instruction was in */
    place left[HAK_OBJECTS_KEPT]; /* those before it: callbacks go to and fro */
    uint32_t left_next;
    bool is_interrupted; /* a signal came before this instruction: no call stands before it */
} walk;

#define IP(w) ((w)->registers[HAK_REG_IP])
#define SP(w) ((w)->registers[HAK_REG_SP])
#define BP(w) ((w)->registers[HAK_REG_BP])
#define BX(w) ((w)->registers[HAK_REG_BX])

/* Addresses of code are user space's, and none is in its first page. */
static inline bool is_code(uint64_t ip) {
    return ip >= HAK_OS_PAGE_BYTES && ip >> HAK_CODE_ADDRESS_BITS == 0;
}

/* --- by frame pointers ------------------------------------------------------------------------ */

static bool step_by_frame_pointer(walk *w) {
    uint64_t frame = BP(w), saved, ip;
    if (frame < SP(w) || !hak_stack_word(&w->range, frame, &saved) ||
        !hak_stack_word(&w->range, frame + sizeof saved, &ip))
        return false;
    BP(w) = saved;
    IP(w) = ip;
    SP(w) = frame + 2 * sizeof saved;
    return true;
}

#if defined(__x86_64__)
/* Loads a register from where it was saved. A place below the stack pointer was left by a pop,
 * which tables do not tell of: the register has its value already. */
static inline bool restore(const walk *w, hak_stack_range *range, uint64_t place, uint64_t *value) {
    return place < SP(w) || hak_stack_word(range, place, value);
}

/* --- by a whole row --------------------------------------------------------------------------- */

static bool place_value(const walk *w, hak_stack_range *range, const hak_place *place, uint64_t cfa,
                        uint64_t *value) {
    uint64_t at;
    switch (place->how) {
    case HAK_HOW_SAME: return true;
    case HAK_HOW_OFFSET: return restore(w, range, cfa + (uint64_t)place->value, value);
    case HAK_HOW_VALUE_OFFSET: *value = cfa + (uint64_t)place->value; return true;
    case HAK_HOW_EXPRESSION:
        return hak_expression_run(w->registers, range, (uint64_t)place->value, &cfa, &at) &&
               hak_stack_word(range, at, value);
    case HAK_HOW_VALUE_EXPRESSION:
        return hak_expression_run(w->registers, range, (uint64_t)place->value, &cfa, value);
    default: *value = 0; return true;
    }
}

static bool find_cfa(walk *w, const hak_place *place, uint64_t *cfa) {
    if (place->how == HAK_HOW_VALUE_EXPRESSION)
        return hak_expression_run(w->registers, &w->range, (uint64_t)place->value, NULL, cfa);
    if (place->how != HAK_HOW_BASE || place->base >= HAK_REG_COUNT) return false;
    *cfa = w->registers[place->base] + (uint64_t)place->value;
    return true;
}

/* What the CFA is made of may be unknown; then frame pointers are tried. */
static bool step_by_row(walk *w, const hak_row *row) {
    uint64_t cfa, next[HAK_REG_COUNT];
    if (row->saved[HAK_REG_IP].how == HAK_HOW_UNDEFINED) return false;
    if (!find_cfa(w, &row->cfa, &cfa)) return step_by_frame_pointer(w);
    memcpy(next, w->registers, sizeof next);
    next[HAK_REG_SP] = cfa;
    for (uint32_t reg = 0; reg < HAK_REG_COUNT; reg++)
        if (!place_value(w, &w->range, &row->saved[reg], cfa, &next[reg])) return false;
    if (row->is_signal) hak_stack_range_begin(&w->range, next[HAK_REG_SP], false);
    else if (next[HAK_REG_SP] <= SP(w)) return false;
    memcpy(w->registers, next, sizeof next);
    w->is_interrupted = row->is_signal;
    return true;
}

/* --- rules ------------------------------------------------------------------------------------ */

/* The kinds of a rule. */
enum {
    RULE_PLAIN, /* CFA: a register + offset; the return address below it; registers below that */
    RULE_NONE,  /* nothing is said: frame pointers */
    RULE_END,   /* nobody called this */
    RULE_WHOLE, /* the row, anew at each walk */
};
/* Fields of a rule, from the lowest bit up. A register's place is how many words below the CFA it
 * was saved, 0: nowhere. */
enum {
    WORDS_BITS = HAK_RULE_OFFSET_BITS,
    SAVED_BITS = HAK_RULE_SAVED_BITS,
    BASE_SHIFT = WORDS_BITS,
    BP_SHIFT = BASE_SHIFT + 2,
    BX_SHIFT = BP_SHIFT + SAVED_BITS,
    KIND_SHIFT = BX_SHIFT + SAVED_BITS,
    HASH_SHIFT = KIND_SHIFT + 2,
};
#define FIELD(rule, shift, bits) ((rule) >> (shift) & ((UINT64_C(1) << (bits)) - 1))

typedef struct slot {
    uint64_t key, rule;
} slot;
/* Page-aligned, so that it takes memory only where it is used. */
static _Alignas(HAK_OS_PAGE_BYTES) slot slots[1u << HAK_RULE_SLOTS_LOG2];

static inline uint64_t mix(uint64_t word) { return word * UINT64_C(0x9e3779b97f4a7c15); }

/* A saved register's place as a field. False: it has none. */
static bool pack_saved(const hak_place *place, uint32_t shift, uint64_t *rule) {
    if (place->how == HAK_HOW_SAME) return true;
    int64_t below = -place->value;
    if (place->how != HAK_HOW_OFFSET || below <= 0 || below % (int64_t)sizeof(uint64_t) != 0 ||
        below / (int64_t)sizeof(uint64_t) >> SAVED_BITS)
        return false;
    *rule |= (uint64_t)below / sizeof(uint64_t) << shift;
    return true;
}

static uint64_t pack_row(const hak_row *row) {
    const hak_place *cfa = &row->cfa, *ip = &row->saved[HAK_REG_IP];
    uint64_t rule = (uint64_t)RULE_PLAIN << KIND_SHIFT, words = (uint64_t)cfa->value / sizeof words;
    if (ip->how == HAK_HOW_UNDEFINED) return (uint64_t)RULE_END << KIND_SHIFT;
    if (row->is_signal || cfa->how != HAK_HOW_BASE || cfa->base >= HAK_REG_IP || cfa->value < 0 ||
        words * sizeof words != (uint64_t)cfa->value || words >> WORDS_BITS ||
        row->saved[HAK_REG_SP].how != HAK_HOW_SAME || ip->how != HAK_HOW_OFFSET ||
        ip->value != -(int64_t)sizeof words ||
        !pack_saved(&row->saved[HAK_REG_BP], BP_SHIFT, &rule) ||
        !pack_saved(&row->saved[HAK_REG_BX], BX_SHIFT, &rule))
        return (uint64_t)RULE_WHOLE << KIND_SHIFT;
    return rule | words | (uint64_t)cfa->base << BASE_SHIFT;
}

HAK_COLD static uint64_t make_rule(const walk *w, uint64_t address) {
    hak_row row;
    /* a coroutine may return to the first instruction of a function, as if that had called it */
    bool found = hak_row_find(&w->at.object, address, &row) ||
                 hak_row_find(&w->at.object, address + 1, &row);
    return found ? pack_row(&row) : (uint64_t)RULE_NONE << KIND_SHIFT;
}

static inline uint64_t find_rule(const walk *w, uint64_t address) {
    uint64_t mixed = mix(address);
    slot *s = &slots[mixed >> (64 - HAK_RULE_SLOTS_LOG2)];
    /* Partner of both: the stores below, of any thread. Relaxed, in any order: what does not belong
     * together does not give the mixed address. */
    uint64_t rule = hak_load_relaxed(&s->rule), key = hak_load_relaxed(&s->key);
    if (hak_likely((key ^ rule) == mixed && rule >> HASH_SHIFT == w->at.hash)) return rule;
    rule = make_rule(w, address) | w->at.hash << HASH_SHIFT;
    hak_store_relaxed(&s->rule, rule);
    hak_store_relaxed(&s->key, mixed ^ rule);
    return rule;
}

/* --- the walk --------------------------------------------------------------------------------- */

/* One frame by its rule. Registers are saved above the stack pointer and below the CFA, so one
 * check serves all reads. */
static bool step_plain(walk *w, uint64_t rule) {
    uint64_t bp = FIELD(rule, BP_SHIFT, SAVED_BITS), bx = FIELD(rule, BX_SHIFT, SAVED_BITS),
             sp = SP(w),
             cfa = w->registers[FIELD(rule, BASE_SHIFT, 2)] +
                   FIELD(rule, 0, WORDS_BITS) * sizeof cfa;
    if (hak_unlikely(cfa <= sp || !hak_stack_has(&w->range, cfa - sizeof cfa))) return false;
    IP(w) = hak_stack_load(cfa - sizeof cfa);
    if (bp && cfa - bp * sizeof cfa >= sp) BP(w) = hak_stack_load(cfa - bp * sizeof cfa);
    if (bx && cfa - bx * sizeof cfa >= sp) BX(w) = hak_stack_load(cfa - bx * sizeof cfa);
    SP(w) = cfa;
    return true;
}

static inline bool is_at(const place *at, uint64_t address) {
    return address - at->object.start < at->object.end - at->object.start;
}

HAK_COLD static bool enter_object(walk *w, uint64_t address) {
    place to = {{0}, 0};
    for (uint32_t i = 0; i < HAK_OBJECTS_KEPT && !to.hash; i++)
        if (is_at(&w->left[i], address)) to = w->left[i];
    bool found = to.hash || hak_object_find(address, &to.object);
    const hak_object *o = &to.object;
    if (found && !to.hash)
        to.hash = (mix(o->start) ^ mix(o->end + (uintptr_t)o->header) ^ mix(hak_object_build(o))) >>
                  HASH_SHIFT;
    w->left[w->left_next++ % HAK_OBJECTS_KEPT] = w->at;
    w->at = to;
    return found;
}

/* To the caller's frame. An address behind a call may be the next function's: the one before it is
 * looked up. */
static bool step(walk *w) {
    uint64_t address = IP(w) - !w->is_interrupted;
    w->is_interrupted = false;
    if (hak_unlikely(!is_at(&w->at, address)) && !enter_object(w, address))
        return step_by_frame_pointer(w);
    uint64_t rule = find_rule(w, address), kind = FIELD(rule, KIND_SHIFT, 2);
    if (hak_likely(kind == RULE_PLAIN)) return step_plain(w, rule);
    if (kind == RULE_NONE) return step_by_frame_pointer(w);
    hak_row row;
    return kind == RULE_WHOLE && hak_row_find(&w->at.object, address, &row) && step_by_row(w, &row);
}

/* As many frames as are found by rules at hand, within one object: as step does, but with all that
 * the walk knows in registers. Whatever is otherwise is left to step. */
static uint32_t steps_plain(walk *w, uint64_t *frames, uint32_t most) {
    const uint64_t start = w->at.object.start, bytes = w->at.object.end - start,
                   high = w->range.high, head = w->at.hash << 2 | RULE_PLAIN;
    uint64_t ip = IP(w), sp = SP(w), bp = BP(w), bx = BX(w);
    uint32_t count = 0;
    while (count < most && ip - 1 - start < bytes) {
        uint64_t mixed = mix(ip - 1);
        const slot *s = &slots[mixed >> (64 - HAK_RULE_SLOTS_LOG2)];
        /* partner: see find_rule */
        uint64_t rule = hak_load_relaxed(&s->rule), key = hak_load_relaxed(&s->key);
        if ((key ^ rule) != mixed || rule >> KIND_SHIFT != head) break;
        uint32_t base = FIELD(rule, BASE_SHIFT, 2);
        uint64_t cfa = (base == HAK_REG_SP   ? sp
                        : base == HAK_REG_BP ? bp
                                             : bx) +
                       FIELD(rule, 0, WORDS_BITS) * sizeof cfa;
        if (cfa <= sp || cfa > high || cfa % sizeof cfa) break;
        uint64_t next = hak_stack_load(cfa - sizeof cfa);
        if (!is_code(next)) break;
        uint64_t bp_words = FIELD(rule, BP_SHIFT, SAVED_BITS),
                 bx_words = FIELD(rule, BX_SHIFT, SAVED_BITS);
        if (bp_words && cfa - bp_words * sizeof cfa >= sp)
            bp = hak_stack_load(cfa - bp_words * sizeof cfa);
        if (bx_words && cfa - bx_words * sizeof cfa >= sp)
            bx = hak_stack_load(cfa - bx_words * sizeof cfa);
        sp = cfa;
        frames[count++] = ip = next;
    }
    IP(w) = ip, SP(w) = sp, BP(w) = bp, BX(w) = bx;
    return count;
}

#define REGISTERS_TAKE(w)                                                                    \
    __asm__ volatile("lea 0(%%rip), %%rax\n mov %%rax, %0\n mov %%rsp, %1\n mov %%rbp, %2\n" \
                     "mov %%rbx, %3\n"                                                       \
                     : "=m"(IP(w)), "=m"(SP(w)), "=m"(BP(w)), "=m"(BX(w))                    \
                     :                                                                       \
                     : "rax")
#else
static bool step(walk *w) { return step_by_frame_pointer(w); }
static uint32_t steps_plain(walk *w, uint64_t *frames, uint32_t most) {
    (void)w, (void)frames, (void)most;
    return 0;
}
#define REGISTERS_TAKE(w) SP(w) = BP(w) = (uintptr_t)__builtin_frame_address(0)
#endif

__attribute__((noinline)) uint32_t hak_stack_take(uint64_t *frames, uint32_t most) {
    walk w = {.is_interrupted = true};
    uint32_t count = 0;
    if (most > HAK_STACK_FRAMES) most = HAK_STACK_FRAMES;
    REGISTERS_TAKE(&w);
    hak_stack_range_begin(&w.range, SP(&w), true);
    for (uint32_t steps = 0; count < most && steps < 2 * HAK_STACK_FRAMES; steps++) {
        if (!step(&w) || !is_code(IP(&w))) break;
        if (!count && hak_object_is_own(IP(&w))) continue;
        frames[count++] = IP(&w);
        if (!w.is_interrupted) count += steps_plain(&w, frames + count, most - count);
    }
    return count;
}
