/* python_layout.c: the offsets of CPython 3.11 to 3.14, by its version or as it tells them.
 *
 * 3.11 and 3.12 keep their structs from one bug fix release to the next, so the structs as they
 * were released are written down here, as far as they are read. From 3.13 on the first member of
 * _PyRuntime tells the offsets to debuggers; which words it has depends on the version again. Only
 * released versions are known. Builds whose objects have other heads (traced references, threads
 * without a GIL) are turned away here where they say so, and else by the first walk, which finds no
 * code object where one should be.
 */
#include "python_layout.h"

#include <string.h>

#define FINAL 0xf
#define MINOR_OF(version) ((version) >> 16)

typedef struct object_head {
    uint64_t references, type;
} object_head;

/* What a byte string and text begin with. */
typedef struct bytes_3_11 {
    object_head head;
    uint64_t count, hash;
    char text[1];
} bytes_3_11;
typedef struct text_3_11 {
    object_head head;
    uint64_t count, hash;
    uint32_t form;
    uint64_t wide;
} text_3_11;
typedef struct compact_3_11 {
    text_3_11 ascii;
    uint64_t utf8_bytes, utf8, wide_count;
} compact_3_11;
typedef struct text_3_12 {
    object_head head;
    uint64_t count, hash;
    uint32_t form;
} text_3_12;
typedef struct compact_3_12 {
    text_3_12 ascii;
    uint64_t utf8_bytes, utf8;
} compact_3_12;

typedef struct state_3_11 {
    uint64_t previous, next, interpreter;
    int32_t initialized, fixed, recursion[3], tracing[2];
    uint64_t c_frame, tracers[4], error[3], exceptions, dictionary;
    int32_t state_count;
    uint64_t interrupt, thread;
} state_3_11;
typedef struct c_frame_3_11 {
    uint8_t tracing;
    uint64_t frame;
} c_frame_3_11;
typedef struct frame_3_11 {
    uint64_t function, globals, builtins, locals, code, object, previous, instruction;
    int32_t top;
    bool entry;
    uint8_t owner;
} frame_3_11;
typedef struct code_3_11 {
    object_head head;
    uint64_t item_count, constants, names, exceptions;
    int32_t flags;
    int16_t warmup, entry_bytes;
    int32_t arguments[3], stack, first_line, locals[5];
    uint64_t local_names, local_kinds, file, name, qualified_name, lines, weak, code, line_array;
    int32_t first_traceable;
    uint64_t extra;
    char instructions[1];
} code_3_11;

typedef struct state_3_12 {
    uint64_t previous, next, interpreter;
    uint32_t status;
    int32_t recursion[4], tracing[2];
    uint64_t c_frame, tracers[4], error, exceptions, dictionary;
    int32_t state_count;
    uint64_t interrupt, thread;
} state_3_12;
typedef struct frame_3_12 {
    uint64_t code, previous, function, globals, builtins, locals, object, instruction;
    int32_t top;
    uint16_t return_offset;
    uint8_t owner;
} frame_3_12;
typedef struct code_3_12 {
    object_head head;
    uint64_t item_count, constants, names, exceptions;
    int32_t flags, arguments[3], stack, first_line, all_locals, frame_words, locals[3], version;
    uint64_t local_names, local_kinds, file, name, qualified_name, lines, weak, cached,
        instrumentation, monitoring;
    int32_t first_traceable;
    uint64_t extra;
    char instructions[1];
} code_3_12;

static const hak_python_fields of_3_11 = {
    .state_bytes = sizeof(state_3_11),
    .state_thread = offsetof(state_3_11, thread),
    .state_frame = offsetof(state_3_11, c_frame),
    .c_frame = offsetof(c_frame_3_11, frame),
    .frame_bytes = sizeof(frame_3_11),
    .frame_code = offsetof(frame_3_11, code),
    .frame_previous = offsetof(frame_3_11, previous),
    .frame_instruction = offsetof(frame_3_11, instruction),
    .frame_owner = offsetof(frame_3_11, owner),
    .frame_entry = offsetof(frame_3_11, entry),
    .code_bytes = offsetof(code_3_11, weak),
    .code_file = offsetof(code_3_11, file),
    .code_name = offsetof(code_3_11, qualified_name),
    .code_lines = offsetof(code_3_11, lines),
    .code_first_line = offsetof(code_3_11, first_line),
    .code_instructions = offsetof(code_3_11, instructions),
    .bytes_count = offsetof(bytes_3_11, count),
    .bytes_text = offsetof(bytes_3_11, text),
    .text_count = offsetof(text_3_11, count),
    .text_form = offsetof(text_3_11, form),
    .text_ascii = sizeof(text_3_11),
    .text_compact = sizeof(compact_3_11),
    .indirect = true,
    .marked = true,
};
static const hak_python_fields of_3_12 = {
    .state_bytes = sizeof(state_3_12),
    .state_thread = offsetof(state_3_12, thread),
    .state_frame = offsetof(state_3_12, c_frame),
    .state_status = offsetof(state_3_12, status),
    .frame_bytes = sizeof(frame_3_12),
    .frame_code = offsetof(frame_3_12, code),
    .frame_previous = offsetof(frame_3_12, previous),
    .frame_instruction = offsetof(frame_3_12, instruction),
    .frame_owner = offsetof(frame_3_12, owner),
    .code_bytes = offsetof(code_3_12, weak),
    .code_file = offsetof(code_3_12, file),
    .code_name = offsetof(code_3_12, qualified_name),
    .code_lines = offsetof(code_3_12, lines),
    .code_first_line = offsetof(code_3_12, first_line),
    .code_instructions = offsetof(code_3_12, instructions),
    .bytes_count = offsetof(bytes_3_11, count),
    .bytes_text = offsetof(bytes_3_11, text),
    .text_count = offsetof(text_3_12, count),
    .text_form = offsetof(text_3_12, form),
    .text_ascii = sizeof(text_3_12),
    .text_compact = sizeof(compact_3_12),
    .indirect = true,
    .held = true,
};

/* The offsets as _PyRuntime tells them: words in groups, each group led by the struct's size. */
typedef struct told_head {
    char cookie[8];
    uint64_t version, without_gil;
    uint64_t runtime[3];
} told_head;
typedef struct told_state {
    uint64_t size, previous, next, interpreter, frame, thread, native, chunk, status;
} told_state;
typedef struct told_frame {
    uint64_t size, previous, code, instruction, locals, owner;
} told_frame;
typedef struct told_code {
    uint64_t size, file, name, qualified_name, lines, first_line, arguments, local_names,
        local_kinds, instructions;
} told_code;
typedef struct told_bytes {
    uint64_t size, count, text;
} told_bytes;
typedef struct told_text {
    uint64_t size, form, count, ascii_bytes;
} told_text;
typedef struct told_3_13 {
    told_head head;
    uint64_t interpreter[13];
    told_state state;
    told_frame frame;
    told_code code;
    uint64_t object[2], type[4], tuple[3], list[3], dictionary[3], number[2], integer[3];
    told_bytes bytes;
    told_text text;
} told_3_13;
typedef struct told_3_14 {
    told_head head;
    uint64_t interpreter[16];
    told_state state;
    told_frame frame;
    uint64_t more_of_frame[2];
    told_code code;
    uint64_t more_of_code[1];
    uint64_t object[2], type[4], tuple[3], list[3], set[4], dictionary[3], number[2], integer[3];
    told_bytes bytes;
    told_text text;
} told_3_14;

/* Takes an offset over: the word there, too, is in the part that is read. */
static bool fits(uint16_t *field, uint16_t *bytes, uint64_t offset) {
    *field = (uint16_t)offset;
    if (offset + sizeof(uint64_t) > *bytes) *bytes = (uint16_t)(offset + sizeof(uint64_t));
    return offset <= HAK_PYTHON_PART_MOST - sizeof(uint64_t);
}

static bool take_told(const told_state *state, const told_frame *frame, const told_code *code,
                      const told_bytes *bytes, const told_text *text, hak_python_fields *f) {
    uint16_t unread = 0;
    *f = (hak_python_fields){.held = true};
    return fits(&f->state_thread, &f->state_bytes, state->thread) &&
           fits(&f->state_frame, &f->state_bytes, state->frame) &&
           fits(&f->state_status, &f->state_bytes, state->status) &&
           fits(&f->frame_code, &f->frame_bytes, frame->code) &&
           fits(&f->frame_previous, &f->frame_bytes, frame->previous) &&
           fits(&f->frame_instruction, &f->frame_bytes, frame->instruction) &&
           fits(&f->frame_owner, &f->frame_bytes, frame->owner) &&
           fits(&f->code_file, &f->code_bytes, code->file) &&
           fits(&f->code_name, &f->code_bytes, code->qualified_name) &&
           fits(&f->code_lines, &f->code_bytes, code->lines) &&
           fits(&f->code_first_line, &f->code_bytes, code->first_line) &&
           fits(&f->code_instructions, &unread, code->instructions) &&
           fits(&f->bytes_count, &unread, bytes->count) &&
           fits(&f->bytes_text, &unread, bytes->text) &&
           fits(&f->text_count, &unread, text->count) && fits(&f->text_form, &unread, text->form) &&
           fits(&f->text_ascii, &unread, text->ascii_bytes) &&
           fits(&f->text_compact, &unread, text->ascii_bytes + 2 * sizeof(uint64_t)) &&
           f->text_ascii == sizeof(text_3_12);
}

static bool read_told(uint64_t version, uint64_t runtime, hak_python_fields *fields) {
    told_head head;
    if (!hak_os_copy(runtime, &head, sizeof head) || memcmp(head.cookie, "xdebugpy", 8) != 0 ||
        head.version != version || head.without_gil)
        return false;
    if (MINOR_OF(version) == 0x030d) {
        told_3_13 told;
        return hak_os_copy(runtime, &told, sizeof told) &&
               take_told(&told.state, &told.frame, &told.code, &told.bytes, &told.text, fields);
    }
    told_3_14 told;
    return hak_os_copy(runtime, &told, sizeof told) &&
           take_told(&told.state, &told.frame, &told.code, &told.bytes, &told.text, fields);
}

/* The fields of a version, as Py_Version has it; false: a version or a build that is not known.
 * `runtime`: where _PyRuntime is. */
bool hak_python_layout(uint64_t version, uint64_t runtime, hak_python_fields *fields) {
    if ((version >> 4 & FINAL) != FINAL) return false;
    switch (MINOR_OF(version)) {
    case 0x030b: *fields = of_3_11; return true;
    case 0x030c: *fields = of_3_12; return true;
    case 0x030d:
    case 0x030e: return read_told(version, runtime, fields);
    default: return false;
    }
}
