/* conform_new.cc: C++'s operators: every form, new handlers, exceptions. */
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "conform.h"

#include <dlfcn.h>
#include <malloc.h>
#include <sys/resource.h>

static const size_t sizes[] = {0, 1, 8, 16, 24, 100, 1000, 1024, 5000, 40000, 70000, 3000000};
static const size_t huge = opaque((size_t)PTRDIFF_MAX + 1);
using align = std::align_val_t;

CHECK(every_operator_is_the_librarys) {
    /* clang-format off */
    static const char *const names[] = {
        "_Znwm", "_Znam", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t", "_ZdlPv", "_ZdaPv",
        "_ZdlPvm", "_ZdaPvm", "_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t",
        "_ZdlPvmSt11align_val_t", "_ZdaPvmSt11align_val_t", "_ZdlPvRKSt9nothrow_t",
        "_ZdaPvRKSt9nothrow_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
        "_ZdaPvSt11align_val_tRKSt9nothrow_t"
    };
    /* clang-format on */
    for (const char *name : names) {
        Dl_info info;
        void *entry = dlsym(RTLD_DEFAULT, name);
        EXPECT(entry && dladdr(entry, &info) && strstr(info.dli_fname, "libhakmem"),
               "%s is not libhakmem's", name);
    }
}

ALIKE(plain_forms) {
    for (size_t size : sizes)
        for (int i = 0; i < 100; i++) {
            void *one = kept(::operator new(size)), *many = kept(::operator new[](size));
            EXPECT(one && many && one != many &&
                       (size < 16 || ((uintptr_t)one | (uintptr_t)many) % 16 == 0),
                   "%p, %p of %zu", one, many, size);
            memset(one, 1, size), memset(many, 1, size);
            if (i % 2) ::operator delete(one), ::operator delete[](many);
            else ::operator delete(one, size), ::operator delete[](many, size);
        }
    ::operator delete(nullptr), ::operator delete[](nullptr), ::operator delete(nullptr, size_t(8)),
        ::operator delete[](nullptr, size_t(8));
}

ALIKE(aligned_forms) {
    for (size_t size : sizes)
        for (size_t to = 8; to <= 65536; to *= 2) {
            void *one = kept(::operator new(size, align(to))),
                 *many = kept(::operator new[](size, align(to)));
            EXPECT(one && many && ((uintptr_t)one | (uintptr_t)many) % to == 0,
                   "%p, %p of %zu at %zu", one, many, size, to);
            memset(one, 1, size), memset(many, 1, size);
            if (to % 3 == 1)
                ::operator delete(one, align(to)), ::operator delete[](many, align(to));
            else
                ::operator delete(one, size, align(to)), ::operator delete[](many, size, align(to));
        }
}

ALIKE(nothrow_forms) {
    for (size_t size : sizes) {
        void *one = kept(::operator new(size, std::nothrow)),
             *many = kept(::operator new[](size, std::nothrow));
        void *first = kept(::operator new(size, align(256), std::nothrow)),
             *second = kept(::operator new[](size, align(256), std::nothrow));
        EXPECT(one && many && first && second && ((uintptr_t)first | (uintptr_t)second) % 256 == 0,
               "%zu", size);
        ::operator delete(one, std::nothrow), ::operator delete[](many, std::nothrow);
        ::operator delete(first, align(256), std::nothrow),
            ::operator delete[](second, align(256), std::nothrow);
    }
}

ALIKE(nothrow_forms_give_null_out_of_memory) {
    EXPECT(!kept(::operator new(huge, std::nothrow)) && !kept(::operator new[](huge, std::nothrow)),
           "plain");
    EXPECT(!kept(::operator new(huge, align(64), std::nothrow)) &&
               !kept(::operator new[](huge, align(64), std::nothrow)),
           "aligned");
}

template <typename Form> static bool throws_bad_alloc(Form form) {
    try {
        kept(form());
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

ALIKE(throwing_forms_throw_bad_alloc_out_of_memory) {
    EXPECT(throws_bad_alloc([] { return ::operator new(huge); }), "new");
    EXPECT(throws_bad_alloc([] { return ::operator new[](huge); }), "new[]");
    EXPECT(throws_bad_alloc([] { return ::operator new(huge, align(64)); }), "aligned new");
    EXPECT(throws_bad_alloc([] { return ::operator new[](huge, align(64)); }), "aligned new[]");
    EXPECT(throws_bad_alloc([] { return (void *)new char[opaque(PTRDIFF_MAX)]; }), "an expression");
    EXPECT(throws_bad_alloc([] { return (void *)new std::string(opaque(PTRDIFF_MAX / 2), 'x'); }),
           "a string");
}

static int asked;

ALIKE(new_handler_is_asked_until_there_is_none) {
    for (int form = 0; form < 4; form++) {
        asked = 0;
        std::set_new_handler([] {
            if (++asked == 5) std::set_new_handler(nullptr);
        });
        EXPECT(throws_bad_alloc([form] {
                   return form == 0   ? ::operator new(huge)
                          : form == 1 ? ::operator new[](huge)
                          : form == 2 ? ::operator new(huge, align(64))
                                      : ::operator new[](huge, align(4096));
               }),
               "form %d", form);
        EXPECT(asked == 5, "form %d: asked %d times", form, asked);
    }
}

ALIKE(new_handler_of_a_nothrow_form_is_asked) {
    asked = 0;
    std::set_new_handler([] {
        if (++asked == 3) throw std::bad_alloc();
    });
    EXPECT(!kept(::operator new(huge, std::nothrow)) && asked == 3, "asked %d times", asked);
}

ALIKE(new_handler_may_throw_what_it_likes) {
    std::set_new_handler([] { throw std::length_error("enough"); });
    std::string what;
    try {
        std::vector<char> kept_alive(100); /* has a destructor to be run */
        kept(::operator new(huge));
    } catch (const std::length_error &error) {
        what = error.what();
    } catch (const std::bad_alloc &) {
        what = "bad_alloc";
    }
    EXPECT(what == "enough", "%s", what.c_str());
}

/* The OS refuses memory until the handler lifts the limit: then the same call serves. */
ALIKE(new_handler_that_makes_room_is_enough) {
    kept(::operator new(100));
    rlimit limit;
    getrlimit(RLIMIT_DATA, &limit);
    limit.rlim_cur = 32 << 20;
    EXPECT(setrlimit(RLIMIT_DATA, &limit) == 0, "setrlimit: errno %d", errno);
    asked = 0;
    std::set_new_handler([] {
        rlimit now;
        getrlimit(RLIMIT_DATA, &now);
        now.rlim_cur = now.rlim_max;
        if (++asked == 2) setrlimit(RLIMIT_DATA, &now);
    });
    void *block = kept(::operator new(200 << 20));
    EXPECT(block && asked == 2, "asked %d times", asked);
    memset(block, 1, 200 << 20);
    ::operator delete(block);
}

struct thrower {
    char bytes[1000];
    thrower() { throw std::runtime_error("no"); }
};
struct alignas(128) aligned_thrower : thrower {};

ALIKE(constructor_that_throws_gives_the_block_back) {
    int caught = 0;
    for (int i = 0; i < 4; i++) try {
            if (i == 0) kept(new thrower);
            if (i == 1) kept(new (std::nothrow) thrower);
            if (i == 2) kept(new thrower[3]);
            if (i == 3) kept(new (std::nothrow) aligned_thrower);
        } catch (const std::runtime_error &) {
            caught++;
        }
    EXPECT(caught == 4, "%d", caught);
}

CHECK(delete_frees) {
    void *block = kept(::operator new(100));
    ::operator delete(kept(block));
    EXPECT(kept(malloc(100)) == block, "malloc");
    free(kept(block));
    EXPECT(kept(::operator new[](100)) == block, "new[]");
}

int main(int argc, char **argv) { return run_checks(argc, argv); }
