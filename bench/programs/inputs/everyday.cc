// everyday.cc: what C++ programs do all day, and the corners of new. Says what it found; the same
// on every malloc.
#include <algorithm>
#include <any>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <fstream>
#include <functional>
#include <future>
#include <iomanip>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

static std::string line(int n) {
    std::ostringstream out;
    out << "user" << n % 97 << "@host" << n % 31 << ".example.org " << std::setw(8)
        << std::setfill('0') << n * 7919 << ' ' << std::fixed << std::setprecision(3) << n / 7.0;
    return out.str();
}

static void streams_and_regex(int rounds) {
    const std::regex mail(R"((\w+)@(\w+)\.example\.org\s+(\d+)\s+([\d.]+))");
    std::map<std::string, long> per_host;
    double total = 0;
    for (int n = 0; n < rounds * 500; n++) {
        std::smatch found;
        const std::string text = line(n);
        if (!std::regex_match(text, found, mail)) throw std::logic_error("no match: " + text);
        per_host[found[2]] += std::stol(found[3]);
        total += std::stod(found[4]);
    }
    for (auto &[host, sum] : per_host) std::cout << host << ' ' << sum << '\n';
    std::cout << std::setprecision(12) << total << ' '
              << std::regex_replace(std::string("a1b22c333"), std::regex("[0-9]+"), "<$&>") << '\n';
    {
        std::ofstream file("lines.txt");
        for (int n = 0; n < rounds * 1000; n++) file << line(n) << '\n';
    }
    std::ifstream file("lines.txt");
    std::string word;
    std::unordered_map<std::string, int> counts;
    while (file >> word) counts[word]++;
    std::vector<std::pair<int, std::string>> most;
    for (auto &[text, n] : counts) most.emplace_back(-n, text);
    std::sort(most.begin(), most.end());
    for (size_t i = 0; i < 10 && i < most.size(); i++)
        std::cout << -most[i].first << ' ' << most[i].second << '\n';
}

struct Noisy {
    static std::atomic<int> alive;
    std::vector<char> bytes;
    explicit Noisy(int n) : bytes(static_cast<size_t>(n)) { alive++; }
    Noisy(const Noisy &o) : bytes(o.bytes) { alive++; }
    ~Noisy() { alive--; }
};
std::atomic<int> Noisy::alive{0};

static int deep(int n) {
    Noisy held(n * 10);
    if (n == 0) throw std::runtime_error(std::string(300, 'x'));
    try {
        return deep(n - 1) + 1;
    } catch (const std::runtime_error &error) {
        if (n % 5) throw;
        std::throw_with_nested(
            std::out_of_range(std::string(error.what()).substr(0, 20) + std::to_string(n)));
    }
}

static int unwind(const std::exception &error) {
    try {
        std::rethrow_if_nested(error);
        return 1;
    } catch (const std::exception &inner) {
        return 1 + unwind(inner);
    }
}

static void exceptions(int rounds) {
    int caught = 0, depth = 0;
    for (int n = 0; n < rounds * 50; n++) try {
            deep(n % 40);
        } catch (const std::exception &error) {
            caught++;
            depth += unwind(error);
        }
    auto failing =
        std::async(std::launch::async, []() -> int { throw std::domain_error("from a thread"); });
    try {
        failing.get();
    } catch (const std::domain_error &error) {
        std::cout << error.what() << '\n';
    }
    std::cout << caught << ' ' << depth << ' ' << Noisy::alive << '\n';
}

struct alignas(256) Wide {
    double values[40];
};

static int handler_calls;
static void *reserve;
static void handler() {
    handler_calls++;
    if (handler_calls == 3) {
        std::set_new_handler(nullptr);
        std::free(reserve);
    }
}

static void corners_of_new() {
    volatile std::size_t absurd = PTRDIFF_MAX / 2;
    reserve = std::malloc(1000);
    std::set_new_handler(handler);
    try {
        char *never = new char[absurd];
        std::cout << static_cast<void *>(never) << '\n';
    } catch (const std::bad_alloc &error) {
        std::cout << error.what() << ' ' << handler_calls << '\n';
    }
    std::cout << (new (std::nothrow) char[absurd] == nullptr)
              << (::operator new(absurd, std::align_val_t(64), std::nothrow) == nullptr) << '\n';
    try {
        volatile long negative = -1;
        delete[] new int[static_cast<std::size_t>(negative)];
    } catch (const std::bad_array_new_length &error) {
        std::cout << error.what() << '\n';
    }
    int misaligned = 0;
    std::vector<std::unique_ptr<Wide>> wide;
    std::vector<Wide> packed(7);
    for (int n = 0; n < 1000; n++) {
        wide.push_back(std::make_unique<Wide>());
        misaligned += reinterpret_cast<std::uintptr_t>(wide.back().get()) % alignof(Wide) != 0;
        if (n % 3 == 0) wide[static_cast<size_t>(n / 2)].reset();
    }
    misaligned += reinterpret_cast<std::uintptr_t>(packed.data()) % alignof(Wide) != 0;
    for (std::size_t align = 1; align <= 1 << 16; align *= 2)
        for (std::size_t size : {std::size_t(0), std::size_t(1), align / 2, align, align * 3 + 1,
                                 std::size_t(100000)}) {
            void *block = ::operator new(size, std::align_val_t(align));
            misaligned += reinterpret_cast<std::uintptr_t>(block) % align != 0;
            std::fill_n(static_cast<char *>(block), size, 'a');
            ::operator delete(block, size, std::align_val_t(align));
        }
    void *one = ::operator new(0), *two = ::operator new(0);
    std::cout << misaligned << (one != two) << (one && two) << '\n';
    ::operator delete(one);
    ::operator delete(two, std::size_t(0));
    delete static_cast<int *>(nullptr);
}

static void containers(int rounds) {
    std::map<int, std::list<std::string>> lists;
    std::deque<std::variant<int, std::string, std::vector<double>>> mixed;
    std::set<std::string> names;
    std::any last;
    std::uint32_t dice = 1;
    for (int n = 0; n < rounds * 3000; n++) {
        dice = dice * 1664525 + 1013904223;
        auto &list = lists[static_cast<int>(dice >> 20) % 50];
        list.push_back(std::string(dice >> 24, 'q'));
        if (list.size() > 40) list.sort(), list.pop_front(), list.reverse();
        if (dice & 1024) mixed.emplace_back(line(n));
        else mixed.emplace_back(std::vector<double>(dice >> 26, 1.5));
        if (mixed.size() > 500) mixed.pop_front();
        names.insert(std::to_string(dice >> 12));
        if (names.size() > 3000) names.erase(names.begin());
        last = mixed.back();
    }
    std::size_t bytes = 0;
    for (auto &[key, list] : lists)
        bytes = std::accumulate(list.begin(), list.end(), bytes,
                                [](std::size_t sum, auto &s) { return sum + s.size(); });
    std::cout << bytes << ' ' << mixed.size() << ' ' << names.size() << ' ' << *names.begin() << ' '
              << last.has_value() << '\n';
}

static void threads(int rounds) {
    std::mutex guard;
    std::map<int, std::vector<std::shared_ptr<std::string>>> shared;
    std::atomic<long> sum{0};
    auto work = [&](int id) {
        thread_local std::vector<std::string> mine;
        for (int n = 0; n < rounds * 400; n++) {
            auto made = std::make_shared<std::string>(line(n + id));
            sum += static_cast<long>(made->size());
            mine.push_back(*made);
            if (mine.size() > 100) mine.clear();
            std::lock_guard hold(guard);
            auto &row = shared[n % 13];
            row.push_back(std::move(made));
            if (row.size() > 60) row.erase(row.begin(), row.begin() + 30);
        }
    };
    std::vector<std::thread> crew;
    for (int id = 0; id < 8; id++) crew.emplace_back(work, id);
    for (auto &one : crew) one.join();
    std::vector<std::future<long>> later;
    for (int id = 0; id < 20; id++)
        later.push_back(
            std::async(std::launch::async, [id] { return static_cast<long>(line(id).size()); }));
    for (auto &one : later) sum += one.get();
    std::cout << sum << ' ' << shared.size() << '\n';
}

struct AtTheEnd {
    std::vector<std::string> *kept = new std::vector<std::string>(100, std::string(100, 'z'));
    ~AtTheEnd() {
        std::cout << "after main " << kept->size() << std::endl;
        delete kept;
    }
} at_the_end;

int main(int argc, char **argv) {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 1;
    std::ios::sync_with_stdio(rounds % 2 == 0);
    streams_and_regex(rounds);
    exceptions(rounds);
    corners_of_new();
    containers(rounds);
    threads(rounds);
    return 0;
}
