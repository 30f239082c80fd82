/* eh_rows.c: runs a frame's program up to one instruction: what holds there is its row. */
#include "eh_frame.h"

typedef struct machine {
    const hak_frame_entry *entry;
    hak_row row;
    hak_place first[HAK_REG_COUNT]; /* what the common program says, for restores */
    hak_row kept[HAK_ROWS_KEPT];
    uint64_t at; /* the instruction that the row holds for */
    uint32_t kept_count;
    bool bad;
} machine;

static void place_set(machine *m, uint64_t dwarf, uint8_t how, int64_t value) {
    uint32_t reg = hak_register_of(dwarf);
    if (reg != HAK_REG_OTHER) m->row.saved[reg] = (hak_place){how, 0, value};
}
static void place_restore(machine *m, uint64_t dwarf) {
    uint32_t reg = hak_register_of(dwarf);
    if (reg != HAK_REG_OTHER) m->row.saved[reg] = m->first[reg];
}
static void cfa_set(machine *m, uint64_t dwarf, int64_t value) {
    m->row.cfa = (hak_place){HAK_HOW_BASE, (uint8_t)hak_register_of(dwarf), value};
}
/* A block of bytes with its length before it; its address is what a place keeps. */
static int64_t block_pass(hak_reader *r) {
    int64_t at = (int64_t)(uintptr_t)r->at;
    hak_read_skip(r, hak_read_uleb(r));
    return at;
}
static int64_t factored(machine *m, int64_t n) {
    return (int64_t)((uint64_t)n * (uint64_t)m->entry->data_factor);
}

/* Instructions about one register's place. False: it is none of them. */
static bool run_place(machine *m, uint32_t code, hak_reader *r) {
    if (code >= HAK_CFA_OFFSET && code < HAK_CFA_RESTORE) {
        uint64_t n = hak_read_uleb(r);
        place_set(m, code & HAK_CFA_OPERAND, HAK_HOW_OFFSET, factored(m, (int64_t)n));
        return true;
    }
    if (code >= HAK_CFA_RESTORE) {
        place_restore(m, code & HAK_CFA_OPERAND);
        return true;
    }
    const hak_reader start = *r;
    uint64_t reg = hak_read_uleb(r);
    switch (code) {
    case HAK_CFA_OFFSET_EXTENDED:
        place_set(m, reg, HAK_HOW_OFFSET, factored(m, (int64_t)hak_read_uleb(r)));
        return true;
    case HAK_CFA_OFFSET_SIGNED:
        place_set(m, reg, HAK_HOW_OFFSET, factored(m, hak_read_sleb(r)));
        return true;
    case HAK_CFA_OFFSET_NEGATIVE:
        place_set(m, reg, HAK_HOW_OFFSET, -factored(m, (int64_t)hak_read_uleb(r)));
        return true;
    case HAK_CFA_VALUE_OFFSET:
        place_set(m, reg, HAK_HOW_VALUE_OFFSET, factored(m, (int64_t)hak_read_uleb(r)));
        return true;
    case HAK_CFA_VALUE_OFFSET_SIGNED:
        place_set(m, reg, HAK_HOW_VALUE_OFFSET, factored(m, hak_read_sleb(r)));
        return true;
    case HAK_CFA_EXPRESSION: place_set(m, reg, HAK_HOW_EXPRESSION, block_pass(r)); return true;
    case HAK_CFA_VALUE_EXPRESSION:
        place_set(m, reg, HAK_HOW_VALUE_EXPRESSION, block_pass(r));
        return true;
    case HAK_CFA_RESTORE_EXTENDED: place_restore(m, reg); return true;
    case HAK_CFA_UNDEFINED: place_set(m, reg, HAK_HOW_UNDEFINED, 0); return true;
    case HAK_CFA_SAME_VALUE: place_set(m, reg, HAK_HOW_SAME, 0); return true;
    case HAK_CFA_REGISTER: /* in a register that a walk may not follow */
        (void)hak_read_uleb(r);
        place_set(m, reg, HAK_HOW_UNDEFINED, 0);
        return true;
    default: *r = start; return false;
    }
}

/* Instructions about the CFA. */
static bool run_cfa(machine *m, uint32_t code, hak_reader *r) {
    uint64_t reg;
    switch (code) {
    case HAK_CFA_DEF: reg = hak_read_uleb(r), cfa_set(m, reg, (int64_t)hak_read_uleb(r)); break;
    case HAK_CFA_DEF_SIGNED:
        reg = hak_read_uleb(r), cfa_set(m, reg, factored(m, hak_read_sleb(r)));
        break;
    case HAK_CFA_DEF_REGISTER:
        m->row.cfa.how = HAK_HOW_BASE;
        m->row.cfa.base = (uint8_t)hak_register_of(hak_read_uleb(r));
        break;
    case HAK_CFA_DEF_OFFSET: m->row.cfa.value = (int64_t)hak_read_uleb(r); break;
    case HAK_CFA_DEF_OFFSET_SIGNED: m->row.cfa.value = factored(m, hak_read_sleb(r)); break;
    case HAK_CFA_DEF_EXPRESSION:
        m->row.cfa = (hak_place){HAK_HOW_VALUE_EXPRESSION, 0, block_pass(r)};
        break;
    default: return false;
    }
    return true;
}

/* All others. False: one that nobody knows, so that the program's end is out of reach. */
static bool run_other(machine *m, uint32_t code, hak_reader *r) {
    uint64_t factor = m->entry->code_factor;
    switch (code) {
    case HAK_CFA_NOP: return true;
    case HAK_CFA_ADVANCE_1: m->at += hak_read(r, 1) * factor; return true;
    case HAK_CFA_ADVANCE_2: m->at += hak_read(r, 2) * factor; return true;
    case HAK_CFA_ADVANCE_4: m->at += hak_read(r, sizeof(uint32_t)) * factor; return true;
    case HAK_CFA_ARGUMENTS: (void)hak_read_uleb(r); return true;
    case HAK_CFA_REMEMBER:
        if (m->kept_count == HAK_ROWS_KEPT) return false;
        m->kept[m->kept_count++] = m->row;
        return true;
    case HAK_CFA_RESTORE_STATE:
        if (!m->kept_count) return false;
        m->row = m->kept[--m->kept_count];
        return true;
    default: return false;
    }
}

static bool run_program(machine *m, hak_reader r, uint64_t until) {
    while (r.at < r.end && !r.bad) {
        uint32_t code = *r.at++;
        if (code >= HAK_CFA_ADVANCE && code < HAK_CFA_OFFSET)
            m->at += (code & HAK_CFA_OPERAND) * m->entry->code_factor;
        else if (!run_other(m, code, &r) && !run_cfa(m, code, &r) && !run_place(m, code, &r))
            return false;
        if (m->at > until) return true;
    }
    return !r.bad;
}

/* The row of the instruction at an address. A program counts from the function's first instruction,
 * and what it says behind an advance holds from there on only. */
bool hak_row_find(const hak_object *object, uint64_t address, hak_row *row) {
    hak_frame_entry entry;
    if (!hak_entry_find(object, address, &entry)) return false;
    machine m = {.entry = &entry, .at = entry.start};
    m.row.cfa = (hak_place){HAK_HOW_UNDEFINED, HAK_REG_OTHER, 0};
    m.row.is_signal = entry.is_signal;
    if (!run_program(&m, entry.common, UINT64_MAX)) return false;
    memcpy(m.first, m.row.saved, sizeof m.first);
    if (!run_program(&m, entry.own, address)) return false;
    *row = m.row;
    return true;
}
