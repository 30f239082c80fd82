/* stack.h: the native stack of the calling thread; see stack.c. */
#ifndef HAK_STACK_H
#define HAK_STACK_H
#include "eh_frame.h"
#include "stack_range.h"

/* Return addresses of the calling thread, innermost first, at most `most` and HAK_STACK_FRAMES. The
 * first is the one in the code that called this library. Returns how many. */
HAK_HIDDEN uint32_t hak_stack_take(uint64_t *frames, uint32_t most);

#endif
