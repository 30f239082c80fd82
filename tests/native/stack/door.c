/* door.c: a library of the library's own objects with a way in, for programs that compare stacks:
 * what a walk leaves out is then what it leaves out of libhakmem.so. */
#include "stack.h"

HAK_EXPORT uint32_t stack_take(uint64_t *frames, uint32_t most) {
    uint32_t count = hak_stack_take(frames, most);
    __asm__ volatile(""); /* no call in the last place: this function has a frame */
    return count;
}
