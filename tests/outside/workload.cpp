// Threads that replace blocks of random sizes, hand some over, and check what is in them.
// Deterministic: a run prints the same sum whoever looks on. "ready" comes once every thread has
// filled its table; the rest runs until `rounds` are done, and with rounds = 0 until standard input
// ends.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <map>
#include <string>
#include <thread>
#include <vector>

static std::atomic<int> filled{0};
static std::atomic<bool> over{false};

static uint64_t work(int id, long rounds) {
    uint64_t seed = 88172645463325252ull + uint64_t(id) * 7919, sum = 0;
    auto next = [&] {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        return seed;
    };
    struct Entry {
        unsigned char *at;
        size_t size;
        unsigned char mark;
    };
    std::vector<Entry> table(2000);
    auto fill = [&](Entry &entry) {
        uint64_t r = next();
        entry.size = r % 64 == 0 ? 20000 + r % 100000 : 16 + r % 2000;
        entry.mark = (unsigned char)(r >> 32);
        entry.at = new unsigned char[entry.size];
        std::memset(entry.at, entry.mark, entry.size);
    };
    auto drop = [&](Entry &entry) {
        if (entry.at[0] != entry.mark || entry.at[entry.size - 1] != entry.mark) std::abort();
        sum = sum * 31 + entry.mark + entry.size;
        delete[] entry.at;
    };
    for (Entry &entry : table) fill(entry);
    filled++;
    for (long round = 0; rounds ? round < rounds : !over; round++) {
        Entry &entry = table[next() % table.size()];
        drop(entry);
        fill(entry);
        if (round % 1024 == 0) {
            std::map<int, std::string> words;
            for (int i = 0; i < 50; i++) words[int(next() % 1000)] = std::string(next() % 60, 'x');
            sum += words.size();
        }
    }
    for (Entry &entry : table) drop(entry);
    return sum;
}

int main(int count, char **words) {
    int threads = count > 1 ? std::atoi(words[1]) : 1;
    long rounds = count > 2 ? std::atol(words[2]) : 0;
    std::vector<std::thread> running;
    std::vector<uint64_t> sums(size_t(threads), 0);
    for (int i = 0; i < threads; i++)
        running.emplace_back([i, rounds, &sums] { sums[size_t(i)] = work(i, rounds); });
    while (filled < threads) std::this_thread::yield();
    std::puts("ready");
    std::fflush(stdout);
    if (!rounds) {
        while (std::getchar() != EOF) {}
        over = true;
    }
    uint64_t sum = 0;
    for (int i = 0; i < threads; i++) running[size_t(i)].join(), sum = sum * 131 + sums[size_t(i)];
    std::printf("sum %llx\n", (unsigned long long)(rounds ? sum : 0));
}
