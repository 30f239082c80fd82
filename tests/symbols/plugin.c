/* A library that calls back. */
#ifndef NAME
#define NAME "plugin"
#endif

__attribute__((noinline)) static void plugin_part(void (*say)(const char *)) {
    say(NAME);
    __asm__ volatile("");
}

void plugin_call(void (*say)(const char *)) {
    plugin_part(say);
    say(NAME "_call");
    __asm__ volatile("");
}
