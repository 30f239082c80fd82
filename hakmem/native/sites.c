/* sites.c: call stacks that allocated samples, and the names of Python functions in them. Each is
 * kept once, in a table that only grows: an entry once published stays where it is, so that readers
 * in other processes need no lock.
 *
 * All is done under the profile's lock. Written in this order: the entry, the words in use (by
 * release: a reader who sees them finds the entry), the bucket's head. A fork that cuts between the
 * last two leaves the child an entry that no bucket knows: it is made once more.
 */
#include "sites.h"

#include <string.h>

#define SITE_WORDS (sizeof(hak_site) / sizeof(uint64_t))
#define NAME_WORDS (sizeof(hak_code_name) / sizeof(uint64_t))

static uint64_t hash_more(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ (hash >> 32);
}

static uint64_t hash_text(uint64_t hash, const char *text, uint32_t bytes) {
    uint64_t word;
    for (; bytes >= sizeof word; text += sizeof word, bytes -= sizeof word) {
        memcpy(&word, text, sizeof word);
        hash = hash_more(hash, word);
    }
    word = bytes;
    for (uint32_t i = 0; i < bytes; i++) word = word << 8 | (uint8_t)text[i];
    return hash_more(hash, word);
}

static uint32_t *bucket_of(hak_profile *p, uint64_t hash) {
    return (uint32_t *)((char *)p + p->site_buckets_offset) + (hash & p->site_bucket_mask);
}

/* Room for an entry of so many words at the table's end; 0: there is none. Not yet published. */
static uint32_t take(hak_profile *p, uint64_t words) {
    return words > p->sites_limit - p->sites_used ? 0 : p->sites_used;
}

/* Publishes the entry at the table's end. */
static void publish(hak_profile *p, uint32_t place, uint64_t words, uint64_t hash) {
    uint32_t *bucket = bucket_of(p, hash);
    hak_site *entry = hak_site_at(p, place);
    entry->hash = hash;
    entry->next = *bucket;
    /* partner: readers in other processes */
    hak_store_release(&p->sites_used, place + (uint32_t)words);
    hak_store_relaxed(bucket, place);
}

/* Of spans and mappings, lengths that differ by less than a factor of two are one site. */
static uint32_t length_of(const hak_sample *sample) {
    return sample->class_index ? 0 : 63 - (uint32_t)__builtin_clzll(sample->stride_bytes | 1);
}

/* The place of the site of a sample with these frames; 0: there is no room for it. */
uint32_t hak_site_find(hak_profile *p, const hak_sample *sample, const uint64_t *frames,
                       uint32_t count) {
    uint32_t length = length_of(sample);
    uint64_t hash = hash_more(sample->class_index | (uint64_t)length << 32, sample->rate_bytes);
    for (uint32_t i = 0; i < count; i++) hash = hash_more(hash, frames[i]);
    for (uint32_t at = *bucket_of(p, hash); at; at = hak_site_at(p, at)->next) {
        const hak_site *site = hak_site_at(p, at);
        if (site->hash == hash && site->kind == HAK_SITE_STACK && site->frame_count == count &&
            site->class_index == sample->class_index && site->stride_log2 == length &&
            site->rate_bytes == sample->rate_bytes &&
            !memcmp(site + 1, frames, count * sizeof *frames))
            return at;
    }
    uint32_t place = take(p, SITE_WORDS + count);
    if (!place) return 0;
    hak_site *site = hak_site_at(p, place);
    *site = (hak_site){.kind = HAK_SITE_STACK,
                       .frame_count = (uint16_t)count,
                       .class_index = sample->class_index,
                       .stride_log2 = length,
                       .rate_bytes = sample->rate_bytes,
                       .first_ns = sample->time_ns};
    memcpy(site + 1, frames, count * sizeof *frames);
    publish(p, place, SITE_WORDS + count, hash);
    p->site_count++;
    return place;
}

/* The place of a Python function's name; 0: there is no room for it. */
uint32_t hak_site_name(hak_profile *p, const char *name, uint32_t name_bytes, const char *file,
                       uint32_t file_bytes, uint32_t first_line) {
    uint64_t hash = hash_text(hash_text(first_line, name, name_bytes), file, file_bytes);
    for (uint32_t at = *bucket_of(p, hash); at; at = hak_site_at(p, at)->next) {
        const hak_code_name *found = (hak_code_name *)hak_site_at(p, at);
        const char *text = (const char *)(found + 1);
        if (found->hash == hash && found->kind == HAK_SITE_NAME &&
            found->first_line == first_line && found->name_bytes == name_bytes &&
            found->file_bytes == file_bytes && !memcmp(text, name, name_bytes) &&
            !memcmp(text + name_bytes, file, file_bytes))
            return at;
    }
    uint64_t words = NAME_WORDS + ((uint64_t)name_bytes + file_bytes + 7) / sizeof(uint64_t);
    uint32_t place = take(p, words);
    if (!place) return 0;
    hak_code_name *made = (hak_code_name *)hak_site_at(p, place);
    *made = (hak_code_name){.kind = HAK_SITE_NAME,
                            .name_bytes = (uint16_t)name_bytes,
                            .first_line = first_line,
                            .file_bytes = file_bytes};
    memcpy(made + 1, name, name_bytes);
    memcpy((char *)(made + 1) + name_bytes, file, file_bytes);
    publish(p, place, words, hash);
    p->name_count++;
    return place;
}

void hak_site_count(hak_profile *p, const hak_sample *sample) {
    if (!sample->site) return;
    hak_site *site = hak_site_at(p, sample->site);
    hak_count(site, sample_count, 1);
    hak_count(site, stride_bytes, sample->stride_bytes);
    hak_count(site, size_bytes, sample->size_bytes);
    hak_store_relaxed(&site->last_ns, sample->time_ns);
}

/* The block of a sample has another length now: it stands for as many blocks as that says. */
void hak_site_resize(hak_profile *p, const hak_sample *sample, uint64_t stride) {
    if (!sample->site) return;
    hak_count(hak_site_at(p, sample->site), stride_bytes, stride - sample->stride_bytes);
}

/* Counts a sample as freed, by its age. */
void hak_site_uncount(hak_profile *p, const hak_sample *sample, uint64_t now_ns) {
    if (!sample->site) return;
    hak_site *site = hak_site_at(p, sample->site);
    uint64_t age = now_ns > sample->time_ns ? now_ns - sample->time_ns : 0;
    uint32_t place = 0;
    for (uint64_t limit = HAK_LIFETIME_FIRST_NS; age >= limit && place < HAK_LIFETIME_COUNT - 1;
         limit *= HAK_LIFETIME_STEP)
        place++;
    hak_count(site, freed_count, 1);
    hak_count(site, freed_bytes, sample->stride_bytes);
    hak_store_relaxed(&site->lifetimes[place], site->lifetimes[place] + 1);
}
