/* line.h: one line for stderr, built on the stack and written once. It needs no stdio and no
 * malloc, so any code of the library may use it. */
#ifndef HAK_LINE_H
#define HAK_LINE_H
#include "hak_internal.h"

typedef struct hak_line {
    char text[HAK_LINE_BYTES];
    size_t used; /* one byte is always left for the newline */
} hak_line;

static inline void hak_line_byte(hak_line *line, char byte) {
    if (line->used < sizeof line->text - 1) line->text[line->used++] = byte;
}

static inline void hak_line_text(hak_line *line, const char *text) {
    while (*text) hak_line_byte(line, *text++);
}

/* Adds text that somebody else wrote: cut short, control characters replaced. */
static inline void hak_line_quote(hak_line *line, const char *text) {
    size_t i = 0;
    for (; text[i] && i < HAK_LINE_QUOTE_BYTES; i++)
        hak_line_byte(line, (unsigned char)text[i] < ' ' || text[i] == '\177' ? '?' : text[i]);
    if (text[i]) hak_line_text(line, "...");
}

static inline void hak_line_number(hak_line *line, uint64_t value) {
    char digits[24];
    int n = 0;
    do digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n) hak_line_byte(line, digits[--n]);
}

static inline void hak_line_address(hak_line *line, uint64_t value) {
    int shift = 60;
    while (shift && !(value >> shift)) shift -= 4;
    hak_line_text(line, "0x");
    for (; shift >= 0; shift -= 4) hak_line_byte(line, "0123456789abcdef"[value >> shift & 15]);
}

/* Writes the line. What cannot be written is lost; errno stays as it was. */
static inline void hak_line_write(hak_line *line) {
    line->text[line->used++] = '\n';
    hak_os_say(line->text, line->used);
}

#endif
