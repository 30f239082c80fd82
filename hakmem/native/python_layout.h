/* python_layout.h: where a CPython keeps what a walk over its frames reads; see python_layout.c. */
#ifndef HAK_PYTHON_LAYOUT_H
#define HAK_PYTHON_LAYOUT_H
#include "hak_internal.h"

/* No part of a struct that is read is longer. */
#define HAK_PYTHON_PART_MOST 512

/* Offsets in bytes, and how much of each struct is read. */
typedef struct hak_python_fields {
    uint16_t state_bytes, state_thread, state_frame, state_status;
    uint16_t c_frame; /* where what an indirect state_frame leads to has the frame */
    uint16_t frame_bytes, frame_code, frame_previous, frame_instruction, frame_owner, frame_entry;
    uint16_t code_bytes, code_file, code_name, code_lines, code_first_line, code_instructions;
    uint16_t bytes_count, bytes_text;
    uint16_t text_count, text_form, text_ascii, text_compact;
    bool indirect; /* state_frame leads to a struct on the C stack, which has the frame */
    bool marked;   /* frame_entry is a mark of its own; else shim frames stand between loops */
    bool held;     /* state_status tells whether the thread is attached; else it is to be asked */
} hak_python_fields;

HAK_HIDDEN bool hak_python_layout(uint64_t version, uint64_t runtime, hak_python_fields *fields);

#endif
