/* A service's week in half a minute: 168 hours of a given length, with a fixed number of requests,
 * few at night and many by day. When an hour's requests are done, the service sleeps until the
 * hour is over. A request allocates some blocks that die within it, sometimes one that lives for
 * hours, seldom one that lives for days. The sizes change from day to day, so that holes left by
 * one day's blocks do not fit the next day's. Resident memory is read at the end of each hour,
 * beside the bytes of the blocks held then. One op is one block. */
#include "common.h"

#include <errno.h>
#include <time.h>

#define HOURS 168u
#define REQUESTS_AT_NOON 200000u
#define SHORT_BLOCKS 12u
#define LIFETIME_HOURS_MAX 72u

typedef struct resident { /* a block that outlives its request */
    unsigned char *block;
    uint32_t size;
    uint32_t next; /* in the list of those that die in the same hour, index + 1 */
} resident;

typedef struct week {
    resident *residents;
    uint32_t used, unused; /* records used so far; list of those free again, index + 1 */
    uint32_t limit;
    uint32_t dying[HOURS + LIFETIME_HOURS_MAX + 1]; /* lists by hour, index + 1 */
    uint64_t random, live_bytes, ops, sum;
} week;

/* Requests in an hour: fewest at 3 in the morning, most at 15; a triangle. */
static uint32_t requests_of(uint32_t hour) {
    uint32_t from_night = (hour + 21) % 24, height = from_night < 12 ? from_night : 24 - from_night;
    return REQUESTS_AT_NOON / 8 + REQUESTS_AT_NOON * 7 / 8 * height / 12;
}

/* Draws a size: mostly small, at times some KiB, seldom hundreds of KiB. Each day all sizes are
 * stretched by another amount; on days 3 and 7 by nearly the same. */
static uint32_t size_draw(week *w, uint32_t day) {
    uint64_t bits = bench_random_next(&w->random);
    uint32_t kind = (uint32_t)(bench_random_next(&w->random) >> 56);
    uint32_t size = kind < 220   ? bench_random_spread(bits, 16, 1024)
                    : kind < 254 ? bench_random_spread(bits, 1024, 32 * 1024)
                                 : bench_random_spread(bits, 32 * 1024, 500 * 1024);
    return size + size * (day * 5 % 7) / 16;
}

static unsigned char *block_new(uint32_t size) {
    unsigned char *block = bench_block_new_touched(size);
    *(uint32_t *)block = size;
    return block;
}

static void block_end(week *w, unsigned char *block, uint32_t size) {
    if (*(uint32_t *)block != size) bench_give_up("a block's first bytes were overwritten");
    w->sum += block[size - 1];
    free(block);
}

static void resident_new(week *w, uint32_t hour, uint32_t hours) {
    uint32_t size = size_draw(w, hour / 24), index = w->unused ? w->unused - 1 : w->used++;
    if (index == w->limit) bench_give_up("more living blocks than there is room for");
    resident *r = &w->residents[index];
    if (w->unused) w->unused = r->next;
    *r = (resident){block_new(size), size, w->dying[hour + hours]};
    w->dying[hour + hours] = index + 1;
    w->live_bytes += size;
    w->ops++;
}

static void residents_end(week *w, uint32_t hour) {
    while (w->dying[hour]) {
        uint32_t index = w->dying[hour] - 1;
        resident *r = &w->residents[index];
        w->dying[hour] = r->next;
        w->live_bytes -= r->size;
        block_end(w, r->block, r->size);
        r->next = w->unused;
        w->unused = index + 1;
    }
}

static void request(week *w, uint32_t hour) {
    unsigned char *blocks[SHORT_BLOCKS];
    uint32_t sizes[SHORT_BLOCKS];
    for (uint32_t i = 0; i < SHORT_BLOCKS; i++)
        blocks[i] = block_new(sizes[i] = size_draw(w, hour / 24));
    uint64_t bits = bench_random_next(&w->random);
    if (bits % 16 == 0) /* a session: up to 8 hours */
        resident_new(w, hour, 1 + (uint32_t)(bits >> 32) % 8);
    if (bits % 256 == 1) /* something kept: up to 3 days */
        resident_new(w, hour, 1 + (uint32_t)(bits >> 32) % LIFETIME_HOURS_MAX);
    for (uint32_t i = 0; i < SHORT_BLOCKS; i++)
        block_end(w, blocks[(i * 5) % SHORT_BLOCKS], sizes[(i * 5) % SHORT_BLOCKS]);
    w->ops += SHORT_BLOCKS;
}

/* Does not sleep if the hour is over already. */
static void hour_end(uint64_t until_ns) {
    struct timespec until = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR);
}

/* Resident memory in relation to the bytes held, over the hours of a day. */
static double over_live(const bench_series *rss, const bench_series *live, uint32_t day) {
    double held = 0, needed = 0;
    for (uint32_t hour = day * 24; hour < (day + 1) * 24; hour++) {
        held += rss->values[hour];
        needed += live->values[hour];
    }
    return needed > 0 ? held / needed : 0;
}

void bench_work_week(const bench_row *row, bench_run *run) {
    static week w;
    const double hour_ns = (double)row->ops * 1e6 / HOURS * run->scale;
    w.random = run->seed;
    w.limit = (uint32_t)bench_scaled(500000, run->scale) + 1000;
    w.residents = bench_table_new(run, w.limit * sizeof *w.residents);
    bench_series *rss = bench_series_new(run, "rss_kib_by_hour", HOURS);
    bench_series *live = bench_series_new(run, "live_kib_by_hour", HOURS);

    bench_work_begin(run);
    for (uint32_t hour = 0; hour < HOURS; hour++) {
        residents_end(&w, hour);
        uint64_t requests = bench_scaled(requests_of(hour), run->scale);
        for (uint64_t i = 0; i < requests; i++) request(&w, hour);
        hour_end(run->before.wall_ns + (uint64_t)((double)(hour + 1) * hour_ns));
        bench_series_add(rss, (double)bench_rss_kib() - (double)(run->table_bytes >> 10));
        bench_series_add(live, (double)(w.live_bytes >> 10));
    }
    bench_work_end(run);

    /* Days 3 and 7 need about the same memory: growth between them is fragmentation, or memory
     * that was not given back. */
    bench_figure_add(run, "rss_over_live_day3", over_live(rss, live, 2));
    bench_figure_add(run, "rss_over_live_day7", over_live(rss, live, 6));
    bench_figure_add(run, "rss_noon_day7_kib", rss->values[6 * 24 + 15]);
    bench_figure_add(run, "rss_night_day7_kib", rss->values[6 * 24 + 5]);
    for (uint32_t hour = HOURS; hour < HOURS + LIFETIME_HOURS_MAX + 1; hour++)
        residents_end(&w, hour);
    run->ops = w.ops;
    run->checksum = bench_checksum_add(w.random, w.sum);
}
