/* python_frames.h: the Python frames that the calling thread is in; see python_frames.c. */
#ifndef HAK_PYTHON_FRAMES_H
#define HAK_PYTHON_FRAMES_H
#include "hak_internal.h"

/* One frame. Its texts are UTF-8 without an end, lent until Python runs again, or in the caller's
 * room; 0 bytes: not known. A frame without a code object stands for an evaluation loop that has
 * no frame any more, while what its last one held is freed. */
typedef struct hak_python_frame {
    const void *code;
    const char *name; /* qualified */
    const char *file;
    uint32_t name_bytes, file_bytes;
    uint32_t first_line, line; /* 0: none */
    bool entry;                /* the outermost one of its evaluation loop */
} hak_python_frame;

HAK_HIDDEN uint32_t hak_python_frames(hak_python_frame *frames, uint32_t most, char *room,
                                      uint32_t room_bytes);

#endif
