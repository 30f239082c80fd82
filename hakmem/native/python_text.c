/* python_text.c: what a CPython's code object says in words: names as UTF-8, the line of an
 * instruction. Reads the objects as they lie in memory; calls nobody of Python's.
 *
 * A text that the interpreter has as UTF-8 (all ASCII ones, and those it was asked for) is lent
 * where loads are direct; any other is written into the caller's room. What has no meaning as UTF-8
 * (half of a surrogate pair, which stands for a byte of a file's name that is none) is written as
 * \udcff.
 */
#include "python_text.h"

#include <string.h>

/* No address of a program is above, on the machines that the library knows. */
#define ADDRESS_BITS 48
#define SURROGATE_BITS 11
#define PIECE_BYTES 64

/* Where every object has its type: behind the count of its references. */
#define TYPE_AT sizeof(uint64_t)

bool hak_python_read(const hak_python_reader *reader, uint64_t at, void *to, uint64_t bytes) {
    if (at < HAK_OS_PAGE_BYTES || at >> ADDRESS_BITS) return false;
    if (!reader->direct) return hak_os_copy(at, to, bytes);
    memcpy(to, (const void *)at, bytes);
    return true;
}

static bool is_of(hak_python_reader *reader, uint64_t object, uint64_t type) {
    uint64_t found;
    bool fits = object % sizeof found == 0 &&
                hak_python_read(reader, object + TYPE_AT, &found, sizeof found) && found == type;
    reader->odd |= !fits;
    return fits;
}

/* A sequence of bytes, read in pieces. */
typedef struct stream {
    const hak_python_reader *reader;
    uint64_t at, left; /* what is not in the piece yet */
    unsigned char piece[PIECE_BYTES];
    uint32_t next, count;
} stream;

static bool refill(stream *s) {
    uint64_t bytes = s->left < sizeof s->piece ? s->left : sizeof s->piece;
    if (!bytes || !hak_python_read(s->reader, s->at, s->piece, bytes)) return false;
    s->at += bytes;
    s->left -= bytes;
    s->next = 0;
    s->count = (uint32_t)bytes;
    return true;
}
/* The next byte; -1: the end, or nothing that can be read. */
static inline int take(stream *s) {
    return s->next < s->count || refill(s) ? s->piece[s->next++] : -1;
}

/* A character of one, two or four bytes; UINT32_MAX: the end. */
static uint32_t take_wide(stream *s, uint32_t width) {
    uint32_t character = 0;
    for (uint32_t i = 0; i < width; i++) {
        int byte = take(s);
        if (byte < 0) return UINT32_MAX;
        character |= (uint32_t)byte << i * 8;
    }
    return character;
}

/* Writes a character, four bytes at most; one that UTF-8 has not, in six letters. */
static uint32_t write_utf8(uint32_t c, char *to) {
    if (c < 0x80) return to[0] = (char)c, 1;
    if (c < 0x800) return to[0] = (char)(0xc0 | c >> 6), to[1] = (char)(0x80 | (c & 63)), 2;
    if (c >> SURROGATE_BITS == 0xd800 >> SURROGATE_BITS) {
        to[0] = '\\', to[1] = 'u';
        for (uint32_t i = 0; i < 4; i++) to[2 + i] = "0123456789abcdef"[c >> (3 - i) * 4 & 15];
        return 6;
    }
    uint32_t tail = c < 0x10000 ? 2 : 3;
    to[0] = (char)((tail == 2 ? 0xe0 : 0xf0) | c >> tail * 6);
    for (uint32_t i = 1; i <= tail; i++) to[i] = (char)(0x80 | (c >> (tail - i) * 6 & 63));
    return tail + 1;
}

/* Writes a text of wide characters into the room. */
static uint32_t encode(hak_python_reader *reader, uint64_t at, uint64_t count, uint32_t width,
                       const char **text) {
    stream s = {.reader = reader, .at = at, .left = count * width};
    uint32_t bytes = 0, c;
    *text = reader->room;
    while (bytes + 6 <= HAK_PYTHON_TEXT_MOST && bytes + 6 <= reader->room_bytes &&
           (c = take_wide(&s, width)) != UINT32_MAX)
        bytes += write_utf8(c, reader->room + bytes);
    reader->room += bytes;
    reader->room_bytes -= bytes;
    return bytes;
}

/* Lends UTF-8, or copies it into the room, whole characters only. */
static uint32_t lend(hak_python_reader *reader, uint64_t at, uint64_t count, const char **text) {
    uint64_t most = reader->direct ? HAK_PYTHON_TEXT_MOST : reader->room_bytes;
    if (most > HAK_PYTHON_TEXT_MOST) most = HAK_PYTHON_TEXT_MOST;
    uint64_t bytes = count < most ? count : most;
    *text = reader->direct ? (const char *)at : reader->room;
    if (!reader->direct && !hak_python_read(reader, at, reader->room, bytes)) return 0;
    if (bytes < count)
        while (bytes && ((*text)[bytes - 1] & 0x80)) bytes--;
    if (!reader->direct) {
        reader->room += bytes;
        reader->room_bytes -= (uint32_t)bytes;
    }
    return (uint32_t)bytes;
}

/* The bits of a text's form, as they are in all versions that are known: kind, compact, ASCII. */
#define KIND_OF(form) ((form) >> 2 & 7)
#define IS_COMPACT(form) ((form) >> 5 & 1)
#define IS_ASCII(form) ((form) >> 6 & 1)

/* A text object as UTF-8; returns its bytes, 0: none, no text, or no room for it. A text of a
 * program's own class is none. */
uint32_t hak_python_text(hak_python_reader *reader, uint64_t object, const char **text) {
    const hak_python_fields *f = reader->fields;
    uint64_t count, utf8[2];
    uint32_t form;
    *text = "";
    if (!is_of(reader, object, reader->text_type) ||
        !hak_python_read(reader, object + f->text_count, &count, sizeof count) ||
        !hak_python_read(reader, object + f->text_form, &form, sizeof form) || !IS_COMPACT(form) ||
        !count || count > UINT32_MAX)
        return 0;
    if (IS_ASCII(form)) return lend(reader, object + f->text_ascii, count, text);
    uint32_t width = KIND_OF(form);
    if (!hak_python_read(reader, object + f->text_ascii, utf8, sizeof utf8)) return 0;
    if (utf8[1] && utf8[0] && utf8[0] <= UINT32_MAX) return lend(reader, utf8[1], utf8[0], text);
    if (width != 1 && width != 2 && width != 4) return 0;
    return encode(reader, object + f->text_compact, count, width, text);
}

/* A number in the table of lines: six bits a byte, the low ones first. */
static uint64_t take_number(stream *s) {
    uint64_t number = 0;
    for (uint32_t shift = 0; shift < 32; shift += 6) {
        int byte = take(s);
        if (byte < 0) break;
        number |= (uint64_t)(byte & 63) << shift;
        if (!(byte & 64)) break;
    }
    return number;
}
/* The same with its sign in the lowest bit. */
static int64_t take_signed(stream *s) {
    uint64_t number = take_number(s);
    return number & 1 ? -(int64_t)(number >> 1) : (int64_t)(number >> 1);
}

/* An entry of the table of lines begins with a byte whose highest bit is set, and no other is. It
 * has a kind and for how many instructions it is good, up to eight. Kinds 0 to 9: columns only;
 * 10 to 12: 0 to 2 lines on; 13 and 14: a number of lines; 15: no line at all. */
static uint32_t line_of(stream *s, int64_t line, uint64_t offset) {
    enum { ONE_LINE = 10, NO_COLUMNS = 13, LONG = 14, NONE = 15 };
    uint64_t at = 0;
    int byte = take(s);
    while (byte >= 0) {
        int kind = byte >> 3 & 15;
        if (kind == NO_COLUMNS || kind == LONG) line += take_signed(s);
        else if (kind >= ONE_LINE && kind < NO_COLUMNS) line += kind - ONE_LINE;
        at += ((uint64_t)(byte & 7) + 1) * 2;
        if (at > offset) return kind == NONE || line < 0 || line > INT32_MAX ? 0 : (uint32_t)line;
        do byte = take(s);
        while (byte >= 0 && !(byte & 0x80));
    }
    return 0;
}

/* The line of the instruction at an offset in bytes, by a code object's table of lines; 0: none. */
uint32_t hak_python_line(hak_python_reader *reader, uint64_t table, uint32_t first_line,
                         uint64_t offset) {
    const hak_python_fields *f = reader->fields;
    uint64_t bytes;
    if (!is_of(reader, table, reader->bytes_type) ||
        !hak_python_read(reader, table + f->bytes_count, &bytes, sizeof bytes) ||
        bytes > UINT32_MAX)
        return 0;
    stream s = {.reader = reader, .at = table + f->bytes_text, .left = bytes};
    return line_of(&s, first_line, offset);
}
