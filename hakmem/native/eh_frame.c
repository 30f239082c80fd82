/* eh_frame.c: which loaded object an address is in, and its description of the function there.
 *
 * _dl_find_object is the only question to the loader: it takes no lock, allocates nothing and may
 * be asked in signal handlers (glibc 2.35 and newer). It is found as vdso.c finds the clock, by the
 * C library's symbols: to link to it would make the library need that glibc. Without it only this
 * library's own frames are described; walks go on by frame pointers.
 *
 * All reads of an object stay within its mapping. What is read is trusted no further: whatever it
 * says, the worst is a wrong frame, since reads of the stack are checked where they are made.
 * Source: Linux Standard Base Core 5.0, 10.6 (.eh_frame, .eh_frame_hdr).
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "dynamic.h"
#include "eh_frame.h"

#if defined(DLFO_EH_SEGMENT_TYPE)
typedef struct dl_find_object found_object;
#else
/* as glibc 2.35 has it on x86-64: the library may be built beside an older one */
typedef struct found_object {
    unsigned long long flags;
    void *dlfo_map_start, *dlfo_map_end;
    struct link_map *link_map;
    void *dlfo_eh_frame;
    unsigned long long reserved[7];
} found_object;
#endif
typedef int (*find_function)(void *, found_object *);

extern struct r_debug _r_debug __attribute__((weak));
/* by the linker: where this library begins and ends */
extern HAK_HIDDEN const char __ehdr_start[];
extern HAK_HIDDEN const char _end[];

/* Only objects of the program's start are passed on the way to the C library: they stay. */
static const void *c_library(void) {
    if (!&_r_debug) return NULL;
    for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next) {
        const char *name = strrchr(map->l_name, '/');
        if (name && strcmp(name + 1, "libc.so.6") == 0) return (const void *)map->l_addr;
    }
    return NULL;
}

static int find_none(void *address, found_object *found) {
    (void)address, (void)found;
    return -1;
}

static find_function look_up(void) {
    const void *image = c_library();
    hak_dynamic d = {0};
    if (!image || !hak_dynamic_find(image, &d)) return find_none;
    for (uint32_t i = 0; i < d.symbol_count; i++) {
        const ElfW(Sym) *symbol = &d.symbols[i];
        if (symbol->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC &&
            strcmp(hak_dynamic_name(&d, symbol), "_dl_find_object") == 0)
            return (find_function)(d.shift + symbol->st_value);
    }
    return find_none;
}

bool hak_object_is_own(uint64_t address) {
    uint64_t start = (uintptr_t)__ehdr_start;
    return address - start < (uintptr_t)_end - start;
}

/* This library, by its own headers. */
static bool find_own(uint64_t address, hak_object *object) {
    const ElfW(Ehdr) *head = (const void *)__ehdr_start;
    const ElfW(Phdr) *parts = (const void *)((const char *)head + head->e_phoff);
    uint64_t start = (uintptr_t)head, first = UINT64_MAX;
    *object = (hak_object){.start = start, .end = (uintptr_t)_end};
    for (int i = 0; i < head->e_phnum; i++) {
        if (parts[i].p_type == PT_LOAD && first == UINT64_MAX) first = parts[i].p_vaddr;
        if (parts[i].p_type == PT_GNU_EH_FRAME)
            object->header = (const uint8_t *)(start + parts[i].p_vaddr - first);
    }
    return hak_object_is_own(address);
}

bool hak_object_find(uint64_t address, hak_object *object) {
    static find_function call; /* partner: any thread's store below; relaxed: the word alone says
                                * everything */
    find_function find = hak_load_relaxed(&call);
    if (hak_unlikely(!find)) {
        find = look_up();
        hak_store_relaxed(&call, find);
    }
    found_object found; /* the call fills it */
    if (find((void *)(uintptr_t)address, &found) == 0) {
        *object = (hak_object){(uintptr_t)found.dlfo_map_start, (uintptr_t)found.dlfo_map_end,
                               found.dlfo_eh_frame};
        return true;
    }
    return find_own(address, object);
}

static hak_reader reader_at(const hak_object *object, uint64_t address) {
    bool inside = address >= object->start && address < object->end;
    const uint8_t *end = (const uint8_t *)object->end;
    return (hak_reader){inside ? (const uint8_t *)address : end, end, !inside};
}

static uint64_t note_build(hak_reader r) {
    while (!r.bad) {
        uint64_t name_bytes = hak_read(&r, sizeof(uint32_t)),
                 bytes = hak_read(&r, sizeof(uint32_t)), type = hak_read(&r, sizeof(uint32_t));
        const uint64_t align = sizeof(uint32_t) - 1;
        if (!type) break;
        hak_read_skip(&r, (name_bytes + align) & ~align);
        if (type == NT_GNU_BUILD_ID && bytes >= sizeof bytes) return hak_read(&r, sizeof bytes);
        hak_read_skip(&r, (bytes + align) & ~align);
    }
    return 0;
}

/* An object of the same size at the same place differs in nothing else that is seen at once. The
 * headers are at the start of its mapping. */
uint64_t hak_object_build(const hak_object *object) {
    hak_reader r = reader_at(object, object->start);
    const ElfW(Ehdr) *head = (const void *)r.at;
    if (!hak_read_has(&r, sizeof *head) || memcmp(head, ELFMAG, SELFMAG) != 0) return 0;
    r = reader_at(object, object->start + head->e_phoff);
    const ElfW(Phdr) *parts = (const void *)r.at;
    if (!hak_read_has(&r, head->e_phnum * sizeof *parts)) return 0;
    uint64_t first = UINT64_MAX, found = 0;
    for (int i = 0; i < head->e_phnum && !found; i++) {
        if (parts[i].p_type == PT_LOAD && first == UINT64_MAX) first = parts[i].p_vaddr;
        if (parts[i].p_type != PT_NOTE || first == UINT64_MAX) continue;
        r = reader_at(object, object->start + parts[i].p_vaddr - first);
        if (!hak_read_has(&r, parts[i].p_memsz)) continue;
        r.end = r.at + parts[i].p_memsz;
        found = note_build(r);
    }
    return found;
}

/* Bytes of a pointer of this form; 0: a form that nobody writes. */
static uint32_t form_bytes(uint8_t form) {
    switch (form & HAK_PE_FORM) {
    case HAK_PE_UDATA2:
    case HAK_PE_SDATA2: return 2;
    case HAK_PE_UDATA4:
    case HAK_PE_SDATA4: return sizeof(uint32_t);
    case HAK_PE_ABSOLUTE:
    case HAK_PE_UDATA8:
    case HAK_PE_SDATA8: return sizeof(uint64_t);
    default: return 0;
    }
}

/* A pointer, which may count from where it stands. */
static uint64_t read_pointer(hak_reader *r, uint8_t form) {
    uint64_t here = (uintptr_t)r->at;
    uint32_t bytes = form_bytes(form);
    if (!bytes) r->bad = true;
    if (r->bad) return 0;
    bool is_signed = form & (HAK_PE_SDATA2 & HAK_PE_SDATA4 & HAK_PE_SDATA8);
    uint64_t value = is_signed ? (uint64_t)hak_read_signed(r, bytes) : hak_read(r, bytes);
    return (form & HAK_PE_BASE) == HAK_PE_FROM_HERE ? here + value : value;
}

/* The length before an entry, which then ends the reader. The form for 4 GiB and more is in no use.
 */
static bool read_length(hak_reader *r) {
    uint64_t bytes = hak_read(r, sizeof(uint32_t));
    if (!bytes || bytes == UINT32_MAX || !hak_read_has(r, bytes)) return false;
    r->end = r->at + bytes;
    return true;
}

/* What a CIE says; its letters are those that GCC and LLVM write. */
static bool read_common(hak_reader r, hak_frame_entry *entry) {
    if (!read_length(&r) || hak_read(&r, sizeof(uint32_t)) != 0) return false;
    uint64_t version = hak_read(&r, 1);
    const char *letters = (const char *)r.at;
    while (hak_read(&r, 1)) {}
    entry->code_factor = hak_read_uleb(&r);
    entry->data_factor = hak_read_sleb(&r);
    if (version == 1) hak_read_skip(&r, 1);
    else (void)hak_read_uleb(&r);
    entry->form = HAK_PE_ABSOLUTE;
    entry->is_signal = false;
    if (r.bad || *letters != 'z') return !r.bad && !*letters ? (entry->common = r, true) : false;
    uint64_t more = hak_read_uleb(&r);
    const uint8_t *program = r.at + more;
    if (!hak_read_has(&r, more)) return false;
    while (*++letters) {
        if (*letters == 'R') entry->form = (uint8_t)hak_read(&r, 1);
        else if (*letters == 'L') hak_read_skip(&r, 1);
        else if (*letters == 'P') hak_read_skip(&r, form_bytes((uint8_t)hak_read(&r, 1)));
        else if (*letters == 'S') entry->is_signal = true;
        else return false;
    }
    entry->common = (hak_reader){program, r.end, false};
    return !r.bad;
}

/* The header's table: where functions begin, ascending, each with its description; both in 32 bits
 * counted from the header, as all linkers write it. 0: no row for the address. */
static uint64_t find_description(const hak_object *object, uint64_t address) {
    uint64_t header = (uintptr_t)object->header;
    hak_reader r = reader_at(object, header);
    uint64_t version = hak_read(&r, 1);
    uint8_t frame_form = (uint8_t)hak_read(&r, 1), count_form = (uint8_t)hak_read(&r, 1),
            table_form = (uint8_t)hak_read(&r, 1);
    (void)read_pointer(&r, frame_form);
    uint64_t count = read_pointer(&r, count_form), low = 0, high = count;
    typedef struct row {
        int32_t start, description;
    } row;
    if (version != 1 || table_form != (HAK_PE_FROM_HEADER | HAK_PE_SDATA4) || r.bad ||
        count > UINT32_MAX || !hak_read_has(&r, count * sizeof(row)))
        return 0;
    int64_t wanted = (int64_t)(address - header);
    row at;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        memcpy(&at, r.at + middle * sizeof at, sizeof at);
        if (at.start <= wanted) low = middle + 1;
        else high = middle;
    }
    if (!low) return 0;
    memcpy(&at, r.at + (low - 1) * sizeof at, sizeof at);
    return header + (uint64_t)(int64_t)at.description;
}

bool hak_entry_find(const hak_object *object, uint64_t address, hak_frame_entry *entry) {
    uint64_t description = object->header ? find_description(object, address) : 0;
    if (!description) return false;
    hak_reader r = reader_at(object, description);
    if (!read_length(&r)) return false;
    uint64_t here = (uintptr_t)r.at, back = hak_read(&r, sizeof(uint32_t));
    if (!back || !read_common(reader_at(object, here - back), entry)) return false;
    entry->start = read_pointer(&r, entry->form);
    uint64_t bytes = read_pointer(&r, entry->form & HAK_PE_FORM);
    hak_read_skip(&r, hak_read_uleb(&r));
    entry->own = r;
    return !r.bad && address - entry->start < bytes;
}
