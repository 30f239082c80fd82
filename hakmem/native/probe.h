/* probe.h: places that a tracer may stop at: static probes (USDT), provider hakmem, for bpftrace,
 * perf, SystemTap and gdb. Each is a nop, and a note in the file that says where it is and in which
 * registers its arguments stand; nothing else happens where nobody listens. The notes are those of
 * SystemTap's sys/sdt.h, which not every system has.
 */
#ifndef HAK_PROBE_H
#define HAK_PROBE_H

#if defined(__ELF__) && (defined(__x86_64__) || defined(__aarch64__))
/* Four arguments of 8 bytes, which stand in registers or are constants. The base lets a reader
 * find the place in a library that was prelinked; one symbol serves all notes of the library. */
#define HAK_PROBE(name, a, b, c, d)                                                              \
    __asm__ volatile("990: nop\n"                                                                \
                     ".pushsection .note.stapsdt, \"\", \"note\"\n"                              \
                     ".balign 4\n"                                                               \
                     ".4byte 992f - 991f, 994f - 993f, 3\n"                                      \
                     "991: .asciz \"stapsdt\"\n"                                                 \
                     "992: .balign 4\n"                                                          \
                     "993: .8byte 990b, _.stapsdt.base, 0\n"                                     \
                     ".asciz \"hakmem\"\n"                                                       \
                     ".asciz \"" name "\"\n"                                                     \
                     ".asciz \"8@%0 8@%1 8@%2 8@%3\"\n"                                          \
                     "994: .balign 4\n"                                                          \
                     ".popsection\n"                                                             \
                     ".ifndef _.stapsdt.base\n"                                                  \
                     ".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n" \
                     ".weak _.stapsdt.base\n"                                                    \
                     ".hidden _.stapsdt.base\n"                                                  \
                     "_.stapsdt.base: .space 1\n"                                                \
                     ".size _.stapsdt.base, 1\n"                                                 \
                     ".popsection\n"                                                             \
                     ".endif" ::"nr"((uint64_t)(a)),                                             \
                     "nr"((uint64_t)(b)), "nr"((uint64_t)(c)), "nr"((uint64_t)(d)))
#else
#define HAK_PROBE(name, a, b, c, d) ((void)0)
#endif

#endif
