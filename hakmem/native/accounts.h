/* accounts.h: what the process heap holds at one moment; gathered by accounts.c, printed by
 * reports.c. */
#ifndef HAK_ACCOUNTS_H
#define HAK_ACCOUNTS_H
#include "hak_internal.h"

/* Bytes, where it does not say count. */
typedef struct hak_accounts {
    uint64_t resident;      /* of the whole region, metadata included: Rss */
    uint64_t metadata;      /* of it, the allocator's own records */
    uint64_t idle;          /* of it, in units of no slab and no span */
    uint64_t committed;     /* readable and writable, for blocks */
    uint64_t most;          /* most units ever live */
    uint64_t span_count;    /* live spans */
    uint64_t span_bytes;    /* asked for in them, in whole OS pages */
    uint64_t span_resident; /* of that, resident */
    uint64_t out_bytes;     /* blocks of slabs that the program has */
    uint64_t cached_bytes;  /* blocks in thread caches, carved ranges included */
    uint64_t listed_count;  /* of them, in lists: what a carved range holds nobody ever freed */
    uint64_t listed_bytes;
    /* blocks of slabs, by class, that are free: in lists, remote lists and caches */
    uint64_t free_count[HAK_CLASS_LIMIT];
    uint64_t run_count; /* free runs */
    uint64_t run_least, run_most, run_bytes;
} hak_accounts;

HAK_HIDDEN void hak_accounts_gather(hak_heap *h, hak_accounts *sum);
/* The same, as mallinfo2 names them; documented at their fields in accounts.c. */
struct mallinfo2;
HAK_HIDDEN struct mallinfo2 hak_accounts_info(const hak_accounts *sum);
#endif
