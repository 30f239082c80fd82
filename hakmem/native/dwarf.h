/* dwarf.h: the numbers of the DWARF standard that .eh_frame is written in, and a reader that never
 * leaves the bytes it was given. Source: DWARF 5, 6.4 and 2.5; Linux Standard Base, 10.6.
 */
#ifndef HAK_DWARF_H
#define HAK_DWARF_H
#include <string.h>

#include "hak_internal.h"

/* How a pointer is written: its form in the low bits, above them what it counts from. */
enum {
    HAK_PE_ABSOLUTE = 0x00,
    HAK_PE_UDATA2 = 0x02,
    HAK_PE_UDATA4 = 0x03,
    HAK_PE_UDATA8 = 0x04,
    HAK_PE_SDATA2 = 0x0a,
    HAK_PE_SDATA4 = 0x0b,
    HAK_PE_SDATA8 = 0x0c,
    HAK_PE_FORM = 0x0f,
    HAK_PE_FROM_HERE = 0x10,
    HAK_PE_FROM_HEADER = 0x30,
    HAK_PE_BASE = 0x70,
};

/* Instructions of a frame's program. The first three hold their operand in the low bits. */
enum {
    HAK_CFA_ADVANCE = 0x40,
    HAK_CFA_OFFSET = 0x80,
    HAK_CFA_RESTORE = 0xc0,
    HAK_CFA_OPERAND = 0x3f,
    HAK_CFA_NOP = 0x00,
    HAK_CFA_SET_LOC = 0x01,
    HAK_CFA_ADVANCE_1 = 0x02,
    HAK_CFA_ADVANCE_2 = 0x03,
    HAK_CFA_ADVANCE_4 = 0x04,
    HAK_CFA_OFFSET_EXTENDED = 0x05,
    HAK_CFA_RESTORE_EXTENDED = 0x06,
    HAK_CFA_UNDEFINED = 0x07,
    HAK_CFA_SAME_VALUE = 0x08,
    HAK_CFA_REGISTER = 0x09,
    HAK_CFA_REMEMBER = 0x0a,
    HAK_CFA_RESTORE_STATE = 0x0b,
    HAK_CFA_DEF = 0x0c,
    HAK_CFA_DEF_REGISTER = 0x0d,
    HAK_CFA_DEF_OFFSET = 0x0e,
    HAK_CFA_DEF_EXPRESSION = 0x0f,
    HAK_CFA_EXPRESSION = 0x10,
    HAK_CFA_OFFSET_SIGNED = 0x11,
    HAK_CFA_DEF_SIGNED = 0x12,
    HAK_CFA_DEF_OFFSET_SIGNED = 0x13,
    HAK_CFA_VALUE_OFFSET = 0x14,
    HAK_CFA_VALUE_OFFSET_SIGNED = 0x15,
    HAK_CFA_VALUE_EXPRESSION = 0x16,
    HAK_CFA_ARGUMENTS = 0x2e,
    HAK_CFA_OFFSET_NEGATIVE = 0x2f,
};

/* Operations of an expression. */
enum {
    HAK_OP_DEREF = 0x06,
    HAK_OP_CONST_1U = 0x08,
    HAK_OP_CONST_1S = 0x09,
    HAK_OP_CONST_2U = 0x0a,
    HAK_OP_CONST_2S = 0x0b,
    HAK_OP_CONST_4U = 0x0c,
    HAK_OP_CONST_4S = 0x0d,
    HAK_OP_CONST_8U = 0x0e,
    HAK_OP_CONST_8S = 0x0f,
    HAK_OP_CONST_U = 0x10,
    HAK_OP_CONST_S = 0x11,
    HAK_OP_DUP = 0x12,
    HAK_OP_DROP = 0x13,
    HAK_OP_OVER = 0x14,
    HAK_OP_SWAP = 0x16,
    HAK_OP_AND = 0x1a,
    HAK_OP_MINUS = 0x1c,
    HAK_OP_MUL = 0x1e,
    HAK_OP_NEG = 0x1f,
    HAK_OP_NOT = 0x20,
    HAK_OP_OR = 0x21,
    HAK_OP_PLUS = 0x22,
    HAK_OP_PLUS_UCONST = 0x23,
    HAK_OP_SHL = 0x24,
    HAK_OP_SHR = 0x25,
    HAK_OP_SHRA = 0x26,
    HAK_OP_XOR = 0x27,
    HAK_OP_EQ = 0x29,
    HAK_OP_GE = 0x2a,
    HAK_OP_GT = 0x2b,
    HAK_OP_LE = 0x2c,
    HAK_OP_LT = 0x2d,
    HAK_OP_NE = 0x2e,
    HAK_OP_LIT_0 = 0x30,
    HAK_OP_LIT_31 = 0x4f,
    HAK_OP_BREG_0 = 0x70,
    HAK_OP_BREG_31 = 0x8f,
    HAK_OP_NOP = 0x96,
};

/* Registers of x86-64 by their numbers here. */
enum { HAK_DWARF_BX = 3, HAK_DWARF_BP = 6, HAK_DWARF_SP = 7, HAK_DWARF_IP = 16 };

/* Past its end a reader gives zeros and is `bad`. */
typedef struct hak_reader {
    const uint8_t *at, *end;
    bool bad;
} hak_reader;

static inline bool hak_read_has(hak_reader *r, uint64_t bytes) {
    if ((uint64_t)(r->end - r->at) >= bytes) return true;
    r->at = r->end;
    r->bad = true;
    return false;
}
static inline void hak_read_skip(hak_reader *r, uint64_t bytes) {
    if (hak_read_has(r, bytes)) r->at += bytes;
}
static inline uint64_t hak_read(hak_reader *r, uint32_t bytes) {
    uint64_t value = 0; /* the machine is little-endian */
    if (!hak_read_has(r, bytes)) return 0;
    memcpy(&value, r->at, bytes);
    r->at += bytes;
    return value;
}
static inline int64_t hak_read_signed(hak_reader *r, uint32_t bytes) {
    uint32_t unused = 64 - 8 * bytes;
    return (int64_t)(hak_read(r, bytes) << unused) >> unused;
}
/* Seven bits a byte, the lowest first; the top bit says that more follow. */
static inline uint64_t hak_read_uleb(hak_reader *r) {
    uint64_t value = 0;
    for (uint32_t shift = 0; hak_read_has(r, 1); shift += 7) {
        uint8_t byte = *r->at++;
        if (shift < 64) value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) break;
    }
    return value;
}
static inline int64_t hak_read_sleb(hak_reader *r) {
    const uint8_t *first = r->at;
    uint64_t value = hak_read_uleb(r);
    uint64_t bits = 7 * (uint64_t)(r->at - first);
    bool negative = r->at > first && (r->at[-1] & 0x40);
    if (negative && bits < 64) value |= UINT64_MAX << bits;
    return (int64_t)value;
}

#endif
