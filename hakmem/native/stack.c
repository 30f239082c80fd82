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
 * A rule carries a hash of the object that it was made for, its place and its .eh_frame's: code
 * unloaded, and other code loaded at its address, has another one. Where two objects have the same
 * (1 in 2^28), or a stack is damaged, a frame may be wrong; every read is checked by stack_range.c,
 * the stack pointer only rises but at a signal handler's return, and frames are counted: a walk
 * ends.
 */
#include "stack.h"

typedef struct walk {
    uint64_t registers[HAK_REG_COUNT];
    hak_stack_range range;
    hak_object object; /* that the last instruction was in */
    uint64_t object_hash;
    bool is_interrupted; /* a signal came before this instruction: no call stands before it */
} walk;

#define IP(w) ((w)->registers[HAK_REG_IP])
#define SP(w) ((w)->registers[HAK_REG_SP])
#define BP(w) ((w)->registers[HAK_REG_BP])

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
/* --- by a whole row --------------------------------------------------------------------------- */

static bool place_value(const walk *w, hak_stack_range *range, const hak_place *place, uint64_t cfa,
                        uint64_t *value) {
    uint64_t at;
    switch (place->how) {
    case HAK_HOW_SAME: return true;
    case HAK_HOW_OFFSET: return hak_stack_word(range, cfa + (uint64_t)place->value, value);
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
    KIND_SHIFT = BASE_SHIFT + 2,
    BP_SHIFT = KIND_SHIFT + 2,
    BX_SHIFT = BP_SHIFT + SAVED_BITS,
    HASH_SHIFT = BX_SHIFT + SAVED_BITS,
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
    return hak_row_find(&w->object, address, &row) ? pack_row(&row)
                                                   : (uint64_t)RULE_NONE << KIND_SHIFT;
}

static inline uint64_t find_rule(const walk *w, uint64_t address) {
    uint64_t mixed = mix(address);
    slot *s = &slots[mixed >> (64 - HAK_RULE_SLOTS_LOG2)];
    /* Partner of both: the stores below, of any thread. Relaxed, in any order: what does not belong
     * together does not give the mixed address. */
    uint64_t rule = hak_load_relaxed(&s->rule), key = hak_load_relaxed(&s->key);
    if (hak_likely((key ^ rule) == mixed && rule >> HASH_SHIFT == w->object_hash)) return rule;
    rule = make_rule(w, address) | w->object_hash << HASH_SHIFT;
    hak_store_relaxed(&s->rule, rule);
    hak_store_relaxed(&s->key, mixed ^ rule);
    return rule;
}

/* --- the walk --------------------------------------------------------------------------------- */

static inline bool step_plain(walk *w, uint64_t rule) {
    uint64_t cfa = w->registers[FIELD(rule, BASE_SHIFT, 2)] +
                   FIELD(rule, 0, WORDS_BITS) * sizeof(uint64_t),
             bp = FIELD(rule, BP_SHIFT, SAVED_BITS), bx = FIELD(rule, BX_SHIFT, SAVED_BITS);
    if (cfa <= SP(w) || !hak_stack_word(&w->range, cfa - sizeof cfa, &IP(w)) ||
        (bp && !hak_stack_word(&w->range, cfa - bp * sizeof cfa, &BP(w))) ||
        (bx && !hak_stack_word(&w->range, cfa - bx * sizeof cfa, &w->registers[HAK_REG_BX])))
        return false;
    SP(w) = cfa;
    return true;
}

HAK_COLD static bool enter_object(walk *w, uint64_t address) {
    if (!hak_object_find(address, &w->object)) {
        w->object = (hak_object){0};
        return false;
    }
    w->object_hash = (mix(w->object.start) ^ mix(w->object.end + (uintptr_t)w->object.header)) >>
                     HASH_SHIFT;
    return true;
}

/* To the caller's frame. An address behind a call may be the next function's: the one before it is
 * looked up. */
static bool step(walk *w) {
    uint64_t address = IP(w) - !w->is_interrupted;
    w->is_interrupted = false;
    if (hak_unlikely(address - w->object.start >= w->object.end - w->object.start) &&
        !enter_object(w, address))
        return step_by_frame_pointer(w);
    uint64_t rule = find_rule(w, address), kind = FIELD(rule, KIND_SHIFT, 2);
    if (hak_likely(kind == RULE_PLAIN)) return step_plain(w, rule);
    if (kind == RULE_NONE) return step_by_frame_pointer(w);
    hak_row row;
    return kind == RULE_WHOLE && hak_row_find(&w->object, address, &row) && step_by_row(w, &row);
}

#define REGISTERS_TAKE(w)                                                                      \
    __asm__ volatile("lea 0(%%rip), %%rax\n mov %%rax, %0\n mov %%rsp, %1\n mov %%rbp, %2\n"   \
                     "mov %%rbx, %3\n"                                                         \
                     : "=m"(IP(w)), "=m"(SP(w)), "=m"(BP(w)), "=m"((w)->registers[HAK_REG_BX]) \
                     :                                                                         \
                     : "rax")
#else
static bool step(walk *w) { return step_by_frame_pointer(w); }
#define REGISTERS_TAKE(w) SP(w) = BP(w) = (uintptr_t)__builtin_frame_address(0)
#endif

/* Addresses of code are user space's, and none is in its first page. */
static inline bool is_code(uint64_t ip) {
    return ip >= HAK_OS_PAGE_BYTES && ip >> HAK_CODE_ADDRESS_BITS == 0;
}

__attribute__((noinline)) uint32_t hak_stack_take(uint64_t *frames, uint32_t most) {
    walk w = {.is_interrupted = true};
    hak_object own;
    uint32_t count = 0;
    if (most > HAK_STACK_FRAMES) most = HAK_STACK_FRAMES;
    REGISTERS_TAKE(&w);
    hak_object_own(&own);
    hak_stack_range_begin(&w.range, SP(&w), true);
    for (uint32_t steps = 0; count < most && steps < 2 * HAK_STACK_FRAMES; steps++) {
        if (!step(&w) || !is_code(IP(&w))) break;
        if (count || IP(&w) - own.start >= own.end - own.start) frames[count++] = IP(&w);
    }
    return count;
}
