/* late_new_plugin.cc: what late_new.c opens late: C++ that runs out of memory, in a process without
 * a C++ runtime before. */
#include <cstddef>
#include <new>

extern "C" int try_new(std::size_t size, int handlers) {
    static int left;
    left = handlers;
    std::set_new_handler(handlers ? [] {
        if (--left == 0) std::set_new_handler(nullptr);
    } : static_cast<std::new_handler>(nullptr));
    try {
        char *volatile block = static_cast<char *>(::operator new(size));
        ::operator delete(block);
    } catch (const std::bad_alloc &) {
        return left == 0 ? 1 : 2;
    }
    return 0;
}
