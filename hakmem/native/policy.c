/* policy.c: policy images: judged, and read from a file. Called when a heap is made, never later.
 *
 * An image may come from anywhere. An image that is accepted here keeps C inside its memory and
 * gives the program blocks that are large enough, aligned and apart. Whether its numbers are
 * sensible is not asked. The bounds are those of hakmem/layout.py.
 */
#include "policy.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "line.h"

/* FNV-1a over all bytes, with the checksum itself as zero. */
uint64_t hak_policy_checksum(const hak_policy *p) {
    const uint8_t *bytes = (const uint8_t *)p;
    size_t place = offsetof(hak_policy, checksum);
    uint64_t value = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sizeof *p; i++) {
        uint8_t byte = i >= place && i < place + sizeof p->checksum ? 0 : bytes[i];
        value = (value ^ byte) * UINT64_C(0x100000001b3);
    }
    return value;
}

static bool refuse(hak_refusal *why, const char *what, uint32_t class_index) {
    *why = (hak_refusal){.what = what, .class_index = class_index};
    return false;
}

static bool refuse_number(hak_refusal *why, const char *what, uint32_t class_index, uint64_t found,
                          uint64_t low, uint64_t high, uint64_t step) {
    *why = (hak_refusal){what, class_index, true, found, low, high, step};
    return false;
}

static bool judge_bounds(const hak_policy *p, hak_refusal *why) {
    for (uint32_t i = 0; i < hak_bound_count; i++) {
        const hak_bound *b = &hak_bounds[i];
        /* class_count is checked already: its own bound comes earlier in the table */
        uint32_t last = b->stride ? p->sizes.class_count : 0;
        for (uint32_t class_index = b->stride ? 1 : 0; class_index <= last; class_index++) {
            uint64_t found = hak_field_get(p, b->offset + class_index * b->stride, b->width);
            if (found < b->low || found > b->high || found % b->step)
                return refuse_number(why, b->path, class_index, found, b->low, b->high, b->step);
        }
    }
    return true;
}

static bool judge_class(const hak_policy *p, uint32_t class_index, hak_refusal *why) {
    const hak_class *class = &p->sizes.classes[class_index];
    uint64_t slab_bytes = (uint64_t)class->unit_count << HAK_UNIT_SHIFT;
    if (class->stride_bytes <= p->sizes.classes[class_index - 1].stride_bytes)
        return refuse(why, "strides do not ascend", class_index);
    if (class->stride_bytes % HAK_BLOCK_ALIGN_BYTES && class->stride_bytes > HAK_BLOCK_ALIGN_BYTES)
        return refuse(why, "a stride that is no multiple of the blocks' alignment", class_index);
    if (class->capacity_bytes != class->stride_bytes - class->header)
        return refuse(why, "a capacity that is not the stride's", class_index);
    if (class->header && !class->start_bytes)
        return refuse(why, "a first header outside its slab", class_index);
    if (class->header && p->headers.live[class_index] == p->headers.freed[class_index])
        return refuse(why, "one header byte for live and freed blocks", class_index);
    if (class->start_bytes + (uint64_t)class->block_count * class->stride_bytes > slab_bytes)
        return refuse(why, "more blocks than fit a slab", class_index);
    if (class->reciprocal != UINT64_MAX / class->stride_bytes + 1)
        return refuse(why, "a reciprocal that is not the stride's", class_index);
    return true;
}

/* Judges the entries of one part of the size map, from the one for `first` bytes on. */
static bool judge_map(const hak_policy *p, const uint8_t *map, uint32_t entries, uint32_t shift,
                      uint32_t first, hak_refusal *why) {
    for (uint32_t i = first >> shift; i < entries; i++) {
        uint32_t class_index = map[i], bytes = i << shift;
        if (class_index > p->sizes.class_count)
            return refuse(why, "the size map names a class that is not there", class_index);
        if (class_index && bytes > p->sizes.classes[class_index].capacity_bytes)
            return refuse(why, "the size map gives a size to a class too small for it",
                          class_index);
        if (!class_index && bytes <= p->sizes.size_limit_bytes)
            return refuse(why, "the size map has a hole", 0);
    }
    return true;
}

static bool judge_order(const hak_policy *p, hak_refusal *why) {
    const uint8_t *order = p->acquire.order;
    uint32_t n = 0;
    while (n < HAK_ACQUIRE_STAGES && order[n] != HAK_STAGE_END) n++;
    for (uint32_t i = 0; i < HAK_ACQUIRE_STAGES; i++)
        if (order[i] > HAK_STAGE_GROW || (i > n && order[i] != HAK_STAGE_END))
            return refuse(why, "the acquire order holds what is no stage", 0);
    if (n == HAK_ACQUIRE_STAGES || !n || order[n - 1] != HAK_STAGE_GROW)
        return refuse(why, "the acquire order does not end with growing", 0);
    return true;
}

bool hak_policy_judge(const hak_policy *p, hak_refusal *why) {
    static const hak_class none;
    if (p->magic != HAK_POLICY_MAGIC) return refuse(why, "this is no policy image", 0);
    if (p->layout_hash != HAK_LAYOUT_HASH)
        return refuse(why, "an image of another layout: make it again with this version", 0);
    if (p->image_bytes != sizeof *p)
        return refuse(why, "an image of another size: make it again with this version", 0);
    if (p->checksum != hak_policy_checksum(p))
        return refuse(why, "a damaged image: its checksum does not fit", 0);
    if (!judge_bounds(p, why)) return false;
    if (memcmp(&p->sizes.classes[0], &none, sizeof none) != 0)
        return refuse(why, "class 0 is not empty", 0);
    for (uint32_t class_index = 1; class_index <= p->sizes.class_count; class_index++) {
        if (!judge_class(p, class_index, why)) return false;
        if (class_index + p->caches.classes[class_index].lend_count > p->sizes.class_count)
            return refuse(why, "more classes may lend than there are behind it", class_index);
    }
    if (p->arenas.populate_units & (p->arenas.populate_units - 1))
        return refuse(why, "arenas.populate_units is no power of two", 0);
    if (p->arenas.init_bytes > p->arenas.max_bytes)
        return refuse(why, "arenas.init_bytes is above arenas.max_bytes", 0);
    return judge_map(p, p->sizes.size_map, HAK_SIZE_MAP_ENTRIES, HAK_SIZE_GRANULE_SHIFT, 0, why) &&
           judge_map(p, p->sizes.big_map, HAK_BIG_MAP_ENTRIES, HAK_BIG_MAP_SHIFT,
                     HAK_SIZE_MAP_LIMIT_BYTES + (1u << HAK_BIG_MAP_SHIFT), why) &&
           judge_order(p, why);
}

/* ---- files ---- */

static void begin(hak_line *line, const char *path) {
    line->used = 0;
    hak_line_text(line, "hakmem: HAKMEM_POLICY=");
    hak_line_quote(line, path);
    hak_line_text(line, ": ");
}

static bool end(hak_line *line) {
    hak_line_text(line, "; the built-in policy is used");
    hak_line_write(line);
    return false;
}

static bool say(const char *path, const char *what) {
    hak_line line;
    begin(&line, path);
    hak_line_text(&line, what);
    return end(&line);
}

static bool say_error(const char *path, const char *what, int error) {
    hak_line line;
    begin(&line, path);
    hak_line_text(&line, what);
    switch (error) {
    case ENOENT: hak_line_text(&line, ": no such file"); break;
    case EACCES: hak_line_text(&line, ": permission denied"); break;
    case EISDIR: hak_line_text(&line, ": a directory"); break;
    case ENOTDIR: hak_line_text(&line, ": a part of the path is no directory"); break;
    default: hak_line_text(&line, ": error "), hak_line_number(&line, (uint64_t)error);
    }
    return end(&line);
}

static bool say_size(const char *path, uint64_t found) {
    hak_line line;
    begin(&line, path);
    hak_line_text(&line, "expected a policy image of ");
    hak_line_number(&line, sizeof(hak_policy));
    hak_line_text(&line, " bytes, found ");
    hak_line_number(&line, found);
    hak_line_text(&line, " (hakmem policy save makes one)");
    return end(&line);
}

static bool say_refusal(const char *path, const hak_refusal *why) {
    hak_line line;
    begin(&line, path);
    hak_line_text(&line, why->what);
    if (why->class_index)
        hak_line_text(&line, " (class "), hak_line_number(&line, why->class_index),
            hak_line_byte(&line, ')');
    if (why->numbers) {
        hak_line_text(&line, " is "), hak_line_number(&line, why->found);
        hak_line_text(&line, ", expected "), hak_line_number(&line, why->low);
        hak_line_text(&line, " to "), hak_line_number(&line, why->high);
        if (why->step > 1) hak_line_text(&line, " in steps of "), hak_line_number(&line, why->step);
    }
    return end(&line);
}

bool hak_policy_read(hak_policy *p, const char *path) {
    int file = hak_os_open(path);
    if (file < 0) return say_error(path, "cannot be opened", -file);
    struct stat about;
    int error = hak_os_stat(file, &about);
    bool regular = !error && S_ISREG(about.st_mode), fits = regular && about.st_size == sizeof *p;
    for (size_t done = 0; fits && !error && done < sizeof *p;) {
        int64_t n = hak_os_read(file, (char *)p + done, sizeof *p - done);
        if (n > 0) done += (size_t)n;
        else if (n == 0) fits = false, about.st_size = (off_t)done; /* cut meanwhile */
        else if (n != -EINTR) error = (int)-n;
    }
    hak_os_close(file);
    if (error) return say_error(path, "cannot be read", error);
    if (!regular)
        return say(path, S_ISDIR(about.st_mode) ? "expected a policy image, found a directory"
                                                : "expected a policy image, found no regular file");
    if (!fits) return say_size(path, (uint64_t)about.st_size);
    hak_refusal why;
    return hak_policy_judge(p, &why) || say_refusal(path, &why);
}
