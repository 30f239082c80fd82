/* fault.c: the fatal report of a misuse that malloc cannot return to its caller: two lines, then
 * abort.
 *
 *   hakmem: free: double free: address 0x..., block 0x..., class 18 of 640 bytes,
 *           process heap: expected ..., found ...    (one line)
 *   hakmem: 0x... is 0 bytes into block 3 at 0x...: free, in the cache of thread record 1; ...
 */
#include <stdlib.h>

#include "describe.h"
#include "hak_internal.h"
#include "line.h"

/* set once a report was printed: the abort that follows needs no crash report */
bool hak_fault_told;

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

static void foreign(hak_line *line, const hak_heap *h, uint64_t address) {
    const hak_heap *other = hak_heap_at(address);
    hak_line_text(line, "expected a block of this heap, found ");
    if (other && other != h) hak_line_text(line, "an address of "), hak_describe_heap(line, other);
    else
        hak_line_text(line, other ? "its metadata or memory that it never handed out"
                                  : "memory of no heap");
}

static void numbers(hak_line *line, const char *expected, uint64_t wanted, const char *found,
                    uint64_t got) {
    hak_line_text(line, expected);
    hak_line_number(line, wanted);
    hak_line_text(line, found);
    hak_line_number(line, got);
}

static void expected_and_found(hak_line *line, hak_heap *h, const hak_fault *fault) {
    switch (fault->code) {
    case HAK_FAULT_FOREIGN: foreign(line, h, fault->address); break;
    case HAK_FAULT_INTERIOR:
        if (fault->block)
            hak_line_text(line, "expected its start, found byte "),
                hak_line_number(line, fault->address - fault->block), hak_line_text(line, " of it");
        else hak_line_text(line, "expected the start of a block, found the edge of a slab");
        break;
    case HAK_FAULT_UNCARVED:
        numbers(line, "expected a block below number ", fault->expected, ", found number ",
                fault->found);
        break;
    case HAK_FAULT_DOUBLE:
        hak_line_text(line, fault->block ? "expected a block that is out, found it free"
                                         : "expected a block that is out, found free memory");
        break;
    default: numbers(line, "expected byte ", fault->expected, ", found byte ", fault->found);
    }
}

void hak_fault_fatal(hak_heap *h, const hak_fault *fault, const char *caller) {
    hak_line line = {.used = 0};
    hak_line_text(&line, "hakmem: ");
    hak_line_text(&line, caller);
    hak_line_text(&line, ": ");
    hak_line_text(&line, what(fault->code));
    hak_line_text(&line, ": address ");
    hak_line_address(&line, fault->address);
    if (fault->block) {
        hak_line_text(&line, ", block ");
        hak_line_address(&line, fault->block);
    }
    if (h && fault->class_index) {
        hak_line_text(&line, ", class ");
        hak_line_number(&line, fault->class_index);
        hak_line_text(&line, " of ");
        hak_line_number(&line, hak_policy_of(h)->sizes.classes[fault->class_index].stride_bytes);
        hak_line_text(&line, " bytes");
    } else if (fault->block) hak_line_text(&line, fault->unit ? ", a span" : ", a mapped block");
    hak_line_text(&line, ", ");
    if (h) hak_describe_heap(&line, h);
    else hak_line_text(&line, "no heap yet");
    hak_line_text(&line, ": ");
    expected_and_found(&line, h, fault);
    hak_line_write(&line);
    line.used = 0;
    hak_line_text(&line, "hakmem: ");
    hak_describe(&line, fault->address, (uintptr_t)__builtin_frame_address(0));
    hak_line_write(&line);
    hak_fault_told = true;
    abort();
}
