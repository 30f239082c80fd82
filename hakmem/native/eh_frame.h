/* eh_frame.h: what .eh_frame says of a place in code; see eh_frame.c and eh_rows.c. */
#ifndef HAK_EH_FRAME_H
#define HAK_EH_FRAME_H
#include "dwarf.h"

/* A loaded object: where it is mapped, and its .eh_frame_hdr (NULL: it has none). */
typedef struct hak_object {
    uint64_t start, end;
    const uint8_t *header;
} hak_object;

/* The registers that a walk follows; all that rules of compiled code need. */
enum { HAK_REG_BX, HAK_REG_BP, HAK_REG_SP, HAK_REG_IP, HAK_REG_COUNT, HAK_REG_OTHER };

/* How the caller's register is found. */
enum {
    HAK_HOW_SAME,             /* it is unchanged */
    HAK_HOW_UNDEFINED,        /* nobody knows; of the instruction: there is no caller */
    HAK_HOW_OFFSET,           /* in memory at CFA + value */
    HAK_HOW_VALUE_OFFSET,     /* it is CFA + value */
    HAK_HOW_EXPRESSION,       /* in memory where the expression at the address `value` says */
    HAK_HOW_VALUE_EXPRESSION, /* what that expression says */
    HAK_HOW_BASE,             /* of the CFA alone: the register `base` + value */
};
typedef struct hak_place {
    uint8_t how, base;
    int64_t value;
} hak_place;

/* What holds at one instruction: the CFA, which is the caller's stack pointer, and registers. */
typedef struct hak_row {
    hak_place cfa, saved[HAK_REG_COUNT];
    bool is_signal; /* a signal handler's return: the caller was interrupted, it called nobody */
} hak_row;

/* What the head of a frame's description (its CIE) and the description itself (FDE) come to. */
typedef struct hak_frame_entry {
    hak_reader common, own; /* programs: for all functions of the CIE, then for this one */
    uint64_t start;         /* where the function begins */
    uint64_t code_factor;
    int64_t data_factor;
    uint8_t form; /* of its pointers */
    bool is_signal;
} hak_frame_entry;

/* The object that an address is in. False: in none, or nobody can say without a lock. */
HAK_HIDDEN bool hak_object_find(uint64_t address, hak_object *object);
/* Eight bytes of the object's build id, 0: it has none. */
HAK_HIDDEN uint64_t hak_object_build(const hak_object *object);
/* Whether an address is in this library. */
HAK_HIDDEN bool hak_object_is_own(uint64_t address);
HAK_HIDDEN bool hak_entry_find(const hak_object *object, uint64_t address, hak_frame_entry *entry);
HAK_HIDDEN bool hak_row_find(const hak_object *object, uint64_t address, hak_row *row);

struct hak_stack_range;
HAK_HIDDEN bool hak_expression_run(const uint64_t *registers, struct hak_stack_range *range,
                                   uint64_t expression, const uint64_t *cfa, uint64_t *result);

static inline uint32_t hak_register_of(uint64_t dwarf) {
    switch (dwarf) {
    case HAK_DWARF_BX: return HAK_REG_BX;
    case HAK_DWARF_BP: return HAK_REG_BP;
    case HAK_DWARF_SP: return HAK_REG_SP;
    case HAK_DWARF_IP: return HAK_REG_IP;
    default: return HAK_REG_OTHER;
    }
}

#endif
