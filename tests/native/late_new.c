/* late_new.c: a C program that opens a C++ library by dlopen, for itself alone: the library's
 * operators find the runtime then.
 *
 * late_new PLUGIN: opens it. late_new alone: calls operator new by its name with no C++ runtime
 * there; it must stop with a line.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc == 1) {
        void *(*new_)(size_t) = (void *(*)(size_t))(uintptr_t)dlsym(RTLD_DEFAULT, "_Znwm");
        if (!new_ || !new_(100)) return 1;
        return new_(SIZE_MAX / 2 + 1) != NULL;
    }
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    int (*try_new)(size_t, int) = plugin ? (int (*)(size_t, int))(uintptr_t)dlsym(plugin, "try_new")
                                         : NULL;
    if (!try_new) return printf("%s\n", dlerror()), 1;
    printf("%d %d %d\n", try_new(1000, 0), try_new(SIZE_MAX / 2 + 1, 0),
           try_new(SIZE_MAX / 2 + 1, 3));
    return 0;
}
