/* The same in C++: names are mangled, and inlined functions are templates' and lambdas'. */
#include <cstdio>
#include <unistd.h>
#include <utility>

__attribute__((noinline)) void say(const char *name) {
    std::printf("%s %p\n", name, __builtin_return_address(0));
    __asm__ volatile("");
}

namespace shop {
template <typename Item> struct Shelf {
    __attribute__((always_inline)) void put(Item) { say("put"); }
    __attribute__((noinline)) void fill(Item item) {
        put(item);
        __asm__ volatile("");
    }
};
} // namespace shop

int main() {
    shop::Shelf<std::pair<int, char>>().fill({1, 'a'});
    std::fflush(stdout);
    char end;
    return (int)read(0, &end, 1);
}
