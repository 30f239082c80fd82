/* eh_expression.c: an expression of .eh_frame, worked out over a frame's registers and stack.
 * Entries of procedure linkage tables have one, functions that align their stack, hand-written
 * assembly, and the return from a signal handler.
 */
#include "eh_frame.h"
#include "stack_range.h"

typedef struct hak_work {
    uint64_t words[HAK_EXPRESSION_WORDS];
    uint32_t count;
    bool bad;
} hak_work;

static void push(hak_work *w, uint64_t word) {
    if (w->count < HAK_EXPRESSION_WORDS) w->words[w->count++] = word;
    else w->bad = true;
}
static uint64_t pop(hak_work *w) {
    if (w->count) return w->words[--w->count];
    w->bad = true;
    return 0;
}
static uint64_t peek(hak_work *w, uint32_t below) {
    if (below < w->count) return w->words[w->count - 1 - below];
    w->bad = true;
    return 0;
}

/* Operations that bring a number along. */
static bool run_constant(hak_work *w, uint32_t code, hak_reader *r) {
    if (code >= HAK_OP_LIT_0 && code <= HAK_OP_LIT_31) return push(w, code - HAK_OP_LIT_0), true;
    switch (code) {
    case HAK_OP_CONST_1U: push(w, hak_read(r, 1)); return true;
    case HAK_OP_CONST_1S: push(w, (uint64_t)hak_read_signed(r, 1)); return true;
    case HAK_OP_CONST_2U: push(w, hak_read(r, 2)); return true;
    case HAK_OP_CONST_2S: push(w, (uint64_t)hak_read_signed(r, 2)); return true;
    case HAK_OP_CONST_4U: push(w, hak_read(r, sizeof(uint32_t))); return true;
    case HAK_OP_CONST_4S: push(w, (uint64_t)hak_read_signed(r, sizeof(uint32_t))); return true;
    case HAK_OP_CONST_8U:
    case HAK_OP_CONST_8S: push(w, hak_read(r, sizeof(uint64_t))); return true;
    case HAK_OP_CONST_U: push(w, hak_read_uleb(r)); return true;
    case HAK_OP_CONST_S: push(w, (uint64_t)hak_read_sleb(r)); return true;
    case HAK_OP_PLUS_UCONST: push(w, pop(w) + hak_read_uleb(r)); return true;
    default: return false;
    }
}

/* Operations on the word on top, or on the order of words. */
static bool run_one(hak_work *w, uint32_t code) {
    uint64_t a, b;
    switch (code) {
    case HAK_OP_NOP: return true;
    case HAK_OP_DUP: push(w, peek(w, 0)); return true;
    case HAK_OP_OVER: push(w, peek(w, 1)); return true;
    case HAK_OP_DROP: (void)pop(w); return true;
    case HAK_OP_SWAP: a = pop(w), b = pop(w), push(w, a), push(w, b); return true;
    case HAK_OP_NEG: push(w, 0 - pop(w)); return true;
    case HAK_OP_NOT: push(w, ~pop(w)); return true;
    default: return false;
    }
}

/* Operations on the two words on top, the second one first. */
static bool run_two(hak_work *w, uint32_t code) {
    uint64_t b = pop(w), a = pop(w), bits = b & 63;
    int64_t sa = (int64_t)a, sb = (int64_t)b;
    switch (code) {
    case HAK_OP_AND: push(w, a & b); return true;
    case HAK_OP_OR: push(w, a | b); return true;
    case HAK_OP_XOR: push(w, a ^ b); return true;
    case HAK_OP_PLUS: push(w, a + b); return true;
    case HAK_OP_MINUS: push(w, a - b); return true;
    case HAK_OP_MUL: push(w, a * b); return true;
    case HAK_OP_SHL: push(w, a << bits); return true;
    case HAK_OP_SHR: push(w, a >> bits); return true;
    case HAK_OP_SHRA: push(w, (uint64_t)(sa >> bits)); return true;
    case HAK_OP_EQ: push(w, sa == sb); return true;
    case HAK_OP_NE: push(w, sa != sb); return true;
    case HAK_OP_GE: push(w, sa >= sb); return true;
    case HAK_OP_GT: push(w, sa > sb); return true;
    case HAK_OP_LE: push(w, sa <= sb); return true;
    case HAK_OP_LT: push(w, sa < sb); return true;
    default: return false;
    }
}

/* Works out the expression that stands, its length first, at an address. `cfa`: NULL where the
 * expression is the CFA's own; else it begins with it. */
bool hak_expression_run(const uint64_t *registers, struct hak_stack_range *range,
                        uint64_t expression, const uint64_t *cfa, uint64_t *result) {
    const uint8_t *at = (const uint8_t *)(uintptr_t)expression;
    hak_reader length = {at, at + sizeof(uint32_t), false};
    uint64_t bytes = hak_read_uleb(&length);
    hak_reader r = {length.at, length.at + bytes, false};
    hak_work w = {.count = 0};
    if (bytes > HAK_EXPRESSION_BYTES) return false;
    if (cfa) push(&w, *cfa);
    while (r.at < r.end && !r.bad && !w.bad) {
        uint32_t code = *r.at++;
        if (code >= HAK_OP_BREG_0 && code <= HAK_OP_BREG_31) {
            uint32_t reg = hak_register_of(code - HAK_OP_BREG_0);
            if (reg == HAK_REG_OTHER) return false;
            push(&w, registers[reg] + (uint64_t)hak_read_sleb(&r));
        } else if (code == HAK_OP_DEREF) {
            uint64_t word;
            if (!hak_stack_word(range, pop(&w), &word)) return false;
            push(&w, word);
        } else if (!run_constant(&w, code, &r) && !run_one(&w, code) && !run_two(&w, code))
            return false;
    }
    *result = pop(&w);
    return !r.bad && !w.bad;
}
