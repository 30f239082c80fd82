/* accounts.h: what the process heap holds at one moment. accounts.c gathers it, reports.c prints
 * it. */
#ifndef HAK_ACCOUNTS_H
#define HAK_ACCOUNTS_H
#include "hak_internal.h"

/* Fields are bytes, unless their names say count. */
typedef struct hak_accounts {
    uint64_t resident;      /* of the whole region with its metadata: Rss */
    uint64_t metadata;      /* of that, the allocator's own records */
    uint64_t idle;          /* of that, in units of no slab, and no span that is out */
    uint64_t committed;     /* readable and writable, for blocks */
    uint64_t most;          /* the most that units in use ever were */
    uint64_t span_count;    /* spans in use */
    uint64_t span_bytes;    /* what the program asked for in them, in whole OS pages */
    uint64_t span_resident; /* of span_bytes, resident */
    uint64_t mapped_count;  /* mapped blocks, outside the region */
    uint64_t mapped_bytes;  /* their bytes */
    uint64_t out_bytes;     /* blocks of slabs that the program holds */
    uint64_t cached_bytes;  /* blocks in thread caches, carved ranges included */
    uint64_t listed_count;  /* of those, in lists; blocks of a carved range were never freed */
    uint64_t listed_bytes;
    /* by class, blocks of slabs that are free: in free lists, remote lists and thread caches */
    uint64_t free_count[HAK_CLASS_LIMIT];
    uint64_t run_count; /* free runs */
    uint64_t run_least, run_most, run_bytes;
} hak_accounts;

HAK_HIDDEN void hak_accounts_gather(hak_heap *h, hak_accounts *sum);
/* The same under the names of mallinfo2; accounts.c says beside each field what it holds. */
struct mallinfo2;
HAK_HIDDEN struct mallinfo2 hak_accounts_info(const hak_accounts *sum);
#endif
