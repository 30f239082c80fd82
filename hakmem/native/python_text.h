/* python_text.h: memory, text and line numbers of a CPython, read; see python_text.c. */
#ifndef HAK_PYTHON_TEXT_H
#define HAK_PYTHON_TEXT_H
#include "python_layout.h"

/* Bytes that a name or a file's name has at most; longer ones are cut. */
#define HAK_PYTHON_TEXT_MOST 1024

/* One walk's way to read, and its room for texts that have to be made. */
typedef struct hak_python_reader {
    const hak_python_fields *fields;
    uint64_t bytes_type, text_type; /* where the types of byte strings and texts are */
    bool direct;                    /* by plain loads, which nothing can make fault */
    bool odd;                       /* an object was of another type than it should be */
    char *room;
    uint32_t room_bytes; /* what is left of it */
} hak_python_reader;

/* The word at an offset of a part that was read. */
static inline uint64_t hak_python_word(const unsigned char *part, uint32_t offset) {
    uint64_t word;
    __builtin_memcpy(&word, part + offset, sizeof word);
    return word;
}

HAK_HIDDEN bool hak_python_read(const hak_python_reader *reader, uint64_t at, void *to,
                                uint64_t bytes);
HAK_HIDDEN uint32_t hak_python_text(hak_python_reader *reader, uint64_t object, const char **text);
HAK_HIDDEN uint32_t hak_python_line(hak_python_reader *reader, uint64_t table, uint32_t first_line,
                                    uint64_t offset);

#endif
