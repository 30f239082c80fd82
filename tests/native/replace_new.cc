/* replace_new.cc: a program that replaces one new and one delete; all forms that the standard
 * defines by them are its own.
 *
 *   replace_new [throwing]   throwing: without the nothrow forms, which stand in the runtime, where
 *                            valgrind has its own
 */
#include <cstdio>
#include <cstdlib>
#include <new>

static int made, freed;

void *operator new(std::size_t size) {
    made++;
    auto *block = static_cast<char *>(std::malloc(size + 16));
    if (!block) throw std::bad_alloc();
    return block + 16; /* no block of malloc's: a free by anybody else is a misuse */
}
void operator delete(void *block) noexcept {
    freed++;
    if (block) std::free(static_cast<char *>(block) - 16);
}

int main(int count, char **) {
    ::operator delete(::operator new(10));
    ::operator delete(::operator new(10), std::size_t(10));
    if (count == 1) ::operator delete(::operator new(10, std::nothrow), std::nothrow);
    ::operator delete[](::operator new[](10));
    ::operator delete[](::operator new[](10), std::size_t(10));
    if (count == 1) ::operator delete[](::operator new[](10, std::nothrow), std::nothrow);
    /* not by them */
    ::operator delete[](::operator new[](10, std::align_val_t(64)), std::align_val_t(64));
    std::printf("%d %d\n", made, freed);
    return 0;
}
