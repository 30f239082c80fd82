/* mapped.c: the table of a heap's mapped blocks, blocks that are mappings of their own outside the
 * region; a row a block, by address, in a part of the metadata that is mapped as the table grows.
 * Blocks that lie side by side are one mapping to the OS. Of mappings that a process may have the
 * heap takes an eighth at most: further blocks are spans then.
 *
 * A row that is about to be filled is reserved first, so that no block is without one. Changes are
 * stores in an order of which a fork's child makes a whole table again (hak_mapped_mend): a row
 * that moves up or down stands twice for a moment, never nowhere; a row with address 0 is none.
 *
 * Of the blocks freed last a few are remembered, so that a second free is told from the free of any
 * address. Somebody else may have memory there by then: whoever asks looks at the table first.
 *
 * Everything needs run_lock, but the glances, which may be wrong while another thread changes the
 * table.
 */
#include "mapped.h"

#include "locks.h"

/* mapped_change: what is being done to the table. */
enum { WHOLE, INSERTING, REMOVING };

static hak_mapped *rows(const hak_heap *h) {
    return (hak_mapped *)((uintptr_t)h + h->mapped_offset);
}

/* The number of rows whose address is at most `address`. */
static uint32_t rows_below(const hak_heap *h, uint64_t address) {
    uint32_t low = 0, high = hak_load_acquire(&h->mapped_count); /* partner: set_total */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (hak_load_relaxed(&rows(h)[middle].address) <= address) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* The mapped block that an address lies in, without the lock: for reports, in signal handlers. */
bool hak_mapped_glance(const hak_heap *h, uint64_t address, hak_mapped *found) {
    uint32_t row = rows_below(h, address);
    if (!row || row > HAK_MAPPED_LIMIT) return false;
    found->address = hak_load_relaxed(&rows(h)[row - 1].address);
    found->bytes = hak_load_relaxed(&rows(h)[row - 1].bytes);
    return address - found->address < found->bytes;
}

bool hak_mapped_find(const hak_heap *h, uint64_t address, hak_mapped *found) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    return hak_mapped_glance(h, address, found);
}

/* Keeps a row for a block that is about to be mapped; false: the table is full. */
bool hak_mapped_reserve(hak_heap *h) {
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    if (h->mapped_count + h->mapped_pending >= h->mapped_rows ||
        h->mapped_pieces + h->mapped_pending >= HAK_MAPPED_PIECES)
        return false;
    h->mapped_pending++;
    return true;
}
void hak_mapped_cancel(hak_heap *h) { h->mapped_pending--; }

static void set_change(hak_heap *h, uint32_t change) {
    hak_keep_order();
    hak_store_relaxed(&h->mapped_change, change);
    hak_keep_order();
}

/* The address first: until the bytes are there too the row is a second one of its address. */
static void copy_row(hak_heap *h, uint32_t to, uint32_t from) {
    hak_store_relaxed(&rows(h)[to].address, rows(h)[from].address);
    hak_keep_order();
    hak_store_relaxed(&rows(h)[to].bytes, rows(h)[from].bytes);
    hak_keep_order();
}

static void set_total(hak_heap *h, uint32_t count, uint64_t bytes) {
    hak_store_release(&h->mapped_count, count); /* partner: rows_below, without the lock */
    hak_store_relaxed(&h->mapped_bytes, bytes);
}

/* How many of the blocks beside a row touch it, and so are one mapping with it. */
static uint32_t touching(const hak_heap *h, uint32_t row) {
    const hak_mapped *at = &rows(h)[row];
    return (row && at[-1].address + at[-1].bytes == at->address) +
           (row + 1 < h->mapped_count && at->address + at->bytes == at[1].address);
}

/* Fills a reserved row. */
void hak_mapped_insert(hak_heap *h, uint64_t address, uint64_t bytes) {
    uint32_t row = rows_below(h, address), count = h->mapped_count;
    hak_assert(hak_rank_is_held(HAK_RANK_RUN) && h->mapped_pending && count < h->mapped_rows);
    set_change(h, INSERTING);
    for (uint32_t at = count; at > row; at--) copy_row(h, at, at - 1);
    hak_store_relaxed(&rows(h)[row].address, 0);
    hak_keep_order();
    hak_store_relaxed(&rows(h)[row].bytes, bytes);
    hak_keep_order();
    hak_store_relaxed(&rows(h)[row].address, address);
    hak_keep_order();
    set_total(h, count + 1, h->mapped_bytes + bytes);
    h->mapped_pieces += 1 - touching(h, row);
    set_change(h, WHOLE);
    h->mapped_pending--;
}

/* Remembers a block that was freed, or that moved elsewhere. */
void hak_mapped_note_freed(hak_heap *h, uint64_t address, uint64_t bytes) {
    uint32_t place = h->mapped_freed % HAK_MAPPED_FREED_COUNT;
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    hak_store_relaxed(&h->freed_address[place], address);
    hak_store_relaxed(&h->freed_bytes[place], bytes);
    hak_store_relaxed(&h->mapped_freed, h->mapped_freed + 1);
}

/* The block freed last of those remembered that held an address, without the lock. */
bool hak_mapped_glance_freed(const hak_heap *h, uint64_t address, hak_mapped *found) {
    uint32_t count = hak_load_relaxed(&h->mapped_freed); /* no partner: each pair is a hint */
    for (uint32_t back = 1; back <= HAK_MAPPED_FREED_COUNT && back <= count; back++) {
        uint32_t place = (count - back) % HAK_MAPPED_FREED_COUNT;
        found->address = hak_load_relaxed(&h->freed_address[place]);
        found->bytes = hak_load_relaxed(&h->freed_bytes[place]);
        if (address - found->address < found->bytes) return true;
    }
    return false;
}

/* Takes the row of a block out, and keeps it reserved if the block `comes_back` at once. False: no
 * block of so many bytes begins there. */
bool hak_mapped_take(hak_heap *h, uint64_t address, uint64_t bytes, bool comes_back) {
    uint32_t row = rows_below(h, address), count = h->mapped_count;
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    if (!row || rows(h)[row - 1].address != address || rows(h)[row - 1].bytes != bytes)
        return false;
    h->mapped_pieces -= 1 - touching(h, row - 1);
    set_change(h, REMOVING);
    for (uint32_t at = row - 1; at + 1 < count; at++) copy_row(h, at, at + 1);
    hak_store_relaxed(&rows(h)[count - 1].address, 0);
    hak_keep_order();
    set_total(h, count - 1, h->mapped_bytes - bytes);
    set_change(h, WHOLE);
    h->mapped_pending += comes_back;
    return true;
}

/* Changes the bytes of a block; false: none begins there. */
bool hak_mapped_set(hak_heap *h, uint64_t address, uint64_t bytes) {
    uint32_t row = rows_below(h, address);
    hak_assert(hak_rank_is_held(HAK_RANK_RUN));
    if (!row || rows(h)[row - 1].address != address) return false;
    uint64_t before = rows(h)[row - 1].bytes;
    h->mapped_pieces += touching(h, row - 1);
    hak_store_relaxed(&rows(h)[row - 1].bytes, bytes);
    hak_store_relaxed(&h->mapped_bytes, h->mapped_bytes - before + bytes);
    h->mapped_pieces -= touching(h, row - 1);
    return true;
}

/* In a fork's child whose run_lock was held: of two rows of one address the one that was copied
 * stays, rows move together, and the sums are made anew. */
void hak_mapped_mend(hak_heap *h) {
    uint32_t most = h->mapped_count + (h->mapped_change == INSERTING), count = 0;
    uint64_t bytes = 0;
    if (most > h->mapped_rows) most = h->mapped_rows;
    for (uint32_t at = 0; at < most; at++) {
        hak_mapped row = rows(h)[at];
        bool twice = count && rows(h)[count - 1].address == row.address;
        if (!row.address || (twice && h->mapped_change == INSERTING)) continue;
        rows(h)[twice ? count - 1 : count++] = row;
    }
    for (uint32_t at = count; at < most; at++) rows(h)[at].address = 0;
    set_total(h, count, 0);
    h->mapped_pieces = count;
    for (uint32_t at = 0; at < count; at++) {
        bytes += rows(h)[at].bytes;
        if (at)
            h->mapped_pieces -= rows(h)[at - 1].address + rows(h)[at - 1].bytes ==
                                rows(h)[at].address;
    }
    set_total(h, count, bytes);
    h->mapped_change = WHOLE;
}
