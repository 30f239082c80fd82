/* fault.c: the fatal report of a misuse that malloc's caller cannot be told of. Stack buffer and write(2) only. */
#include <stdlib.h>
#include <unistd.h>

#include "hak_internal.h"

static char *put(char *at, const char *end, const char *text) {
    while (*text && at < end) *at++ = *text++;
    return at;
}
static char *put_number(char *at, const char *end, uint64_t value, unsigned base) {
    char digits[24];
    int n = 0;
    do digits[n++] = "0123456789abcdef"[value % base];
    while (value /= base);
    while (n && at < end) *at++ = digits[--n];
    return at;
}

static const char *what(uint32_t code) {
    switch (code) {
    case HAK_FAULT_FOREIGN: return "foreign address";
    case HAK_FAULT_INTERIOR: return "address inside a block";
    case HAK_FAULT_UNCARVED: return "address of a block that was never handed out";
    case HAK_FAULT_DOUBLE: return "double free";
    case HAK_FAULT_HEADER: return "overwritten header";
    default: return "misuse";
    }
}

void hak_fault_fatal(hak_heap *h, const hak_fault *fault, const char *caller) {
    char line[400], *at = line;
    const char *end = line + sizeof line - 1;
    at = put(at, end, "hakmem: ");
    at = put(at, end, caller);
    at = put(at, end, ": ");
    at = put(at, end, what(fault->code));
    at = put(at, end, ": address 0x");
    at = put_number(at, end, fault->address, 16);
    if (fault->block) {
        at = put(at, end, ", block 0x");
        at = put_number(at, end, fault->block, 16);
    }
    if (fault->class_index) {
        at = put(at, end, ", class ");
        at = put_number(at, end, fault->class_index, 10);
        at = put(at, end, " of ");
        at = put_number(at, end, hak_policy_of(h)->sizes.classes[fault->class_index].stride_bytes, 10);
        at = put(at, end, " bytes");
    }
    at = put(at, end, ", expected ");
    at = put(at, end, fault->code == HAK_FAULT_HEADER ? "header 0x" : "a block that is out, 0x");
    at = put_number(at, end, fault->expected, 16);
    at = put(at, end, ", found 0x");
    at = put_number(at, end, fault->found, 16);
    *at++ = '\n';
    if (write(2, line, (size_t)(at - line)) < 0) abort();
    abort();
}
