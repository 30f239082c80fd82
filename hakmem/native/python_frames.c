/* python_frames.c: which CPython the process has, and the frames of the calling thread.
 *
 * Who asks stands in malloc: of Python's only PyGILState_GetThisThreadState is called, which reads
 * the thread's own state and no more (pthread_getspecific), and in 3.11 who holds the GIL. The
 * state has the innermost frame, each frame the one before.
 *
 * How they are read. While the thread holds the GIL, nobody changes or frees its frames, and it
 * stands between two steps of its interpreter, where tracemalloc too would walk them: plain loads.
 * A thread without the GIL keeps its frames as they are, but an interpreter that ends frees them
 * and its state all the same: then each piece is copied by the kernel, texts too. So are the
 * states, and all that is read until one walk has found nothing but code objects: a build whose
 * offsets are others than its version's is never trusted.
 *
 * A CPython is looked for in the link map (linked.c), once a second at most while none is known.
 * One that was found stays known; one that is unloaded is noticed by its version, which a copy does
 * not find any more.
 */
#include "python_frames.h"

#include <pthread.h>
#include <string.h>

#include "linked.h"
#include "python_text.h"

typedef struct python {
    hak_python_fields fields;
    uint64_t version, version_at;
    void *(*own_state)(void);
    void *(*holding_state)(void); /* who holds the GIL; 3.11 */
    uint64_t code_type, bytes_type, text_type;
    bool stays;       /* in the program itself: never unloaded */
    uint32_t trusted; /* a walk has found what it should */
} python;

/* Written by who looks, each before the count says so. More than a few in one process are more
 * than anybody has; they are not looked for. */
#define PYTHONS_MOST 4
static python pythons[PYTHONS_MOST];
static uint32_t python_count;
/* The process id of who looks; in a fork's child another's looking is over. */
static uint32_t looking;
static uint64_t looked_ns;

/* ---- looking for it ----------------------------------------------------------------------------
 */

/* Data may be defined by the program as well, whose copy then is everybody's. */
static uint64_t data_at(const hak_linked *program, const hak_linked *object, const char *name) {
    uint64_t at = hak_linked_symbol(program, name);
    return at ? at : hak_linked_symbol(object, name);
}

/* Fills one in from the object that defines `own_state`; false: none that is known. */
static bool describe(const hak_linked *program, const hak_linked *object, uint64_t own_state,
                     python *p) {
    uint64_t runtime = data_at(program, object, "_PyRuntime");
    *p = (python){
        .version_at = data_at(program, object, "Py_Version"),
        .own_state = (void *(*)(void))own_state,
        .holding_state = (void *(*)(void))hak_linked_symbol(object, "_PyThreadState_UncheckedGet"),
        .code_type = data_at(program, object, "PyCode_Type"),
        .bytes_type = data_at(program, object, "PyBytes_Type"),
        .text_type = data_at(program, object, "PyUnicode_Type"),
        .stays = program == object,
    };
    return runtime && p->version_at && p->code_type && p->bytes_type && p->text_type &&
           hak_os_copy(p->version_at, &p->version, sizeof p->version) &&
           hak_python_layout(p->version, runtime, &p->fields) &&
           (p->fields.held || p->holding_state);
}

static bool is_there(const python *p) {
    uint64_t version;
    return p->stays ||
           (hak_os_copy(p->version_at, &version, sizeof version) && version == p->version);
}

static bool is_known(uint64_t own_state, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if ((uint64_t)pythons[i].own_state == own_state && is_there(&pythons[i])) return true;
    return false;
}

static void look_at(const hak_linked *program, const hak_linked *object) {
    uint32_t count = python_count; /* plain: nobody else writes it now */
    uint64_t own_state = hak_linked_symbol(object, "PyGILState_GetThisThreadState");
    if (!own_state || count == PYTHONS_MOST || is_known(own_state, count)) return;
    /* Release: who reads the count has what was written before. Partner: hak_python_frames. */
    if (describe(program, object, own_state, &pythons[count]))
        hak_store_release(&python_count, count + 1);
}

/* Looks for a CPython among what is loaded, in malloc too. One thread at a time; another goes on.
 */
static void look(void) {
    uint32_t process = hak_os_process_id(), other = hak_load_relaxed(&looking);
    hak_linked_walk walk;
    hak_linked program, object;
    uint64_t shift, dynamic;
    /* Acquire: what the one before wrote. Partner: the release below; a fork for a lost one. */
    if (other == process || !hak_cas_acquire(&looking, &other, process)) return;
    if (hak_linked_begin(&walk) && hak_linked_next(&walk, &shift, &dynamic)) {
        if (hak_linked_open(shift, dynamic, &program)) {
            look_at(&program, &program);
            while (hak_linked_next(&walk, &shift, &dynamic))
                if (hak_linked_open(shift, dynamic, &object)) look_at(&program, &object);
        }
        hak_store_relaxed(&looked_ns, hak_os_clock_ns()); /* partner: look_again; a hint */
    }
    hak_store_release(&looking, 0);
}

/* Whether one is known that was not before. */
static bool look_again(uint32_t known) {
    if (hak_os_clock_ns() - hak_load_relaxed(&looked_ns) <= HAK_NS_PER_SECOND) return false;
    look();
    return hak_load_relaxed(&python_count) > known;
}

/* ---- the thread's state ------------------------------------------------------------------------
 */

/* In an object that was loaded late a thread's first call may have the loader allocate: malloc then
 * comes here again. */
static __thread bool asking __attribute__((tls_model("initial-exec")));

/* The part of a state that is read, if the state is one of this thread's. */
static bool read_state(const python *p, uint64_t state, unsigned char *part) {
    return state && hak_os_copy(state, part, p->fields.state_bytes) &&
           hak_python_word(part, p->fields.state_thread) == (uint64_t)pthread_self();
}

/* The thread's innermost frame, and whether the thread holds the GIL; 0: no state, or no frame. */
static uint64_t innermost(const python *p, bool *holds) {
    /* The bit that says that a state is the one its thread runs by. */
    enum { ACTIVE = 4 };
    unsigned char part[HAK_PYTHON_PART_MOST];
    const hak_python_fields *f = &p->fields;
    uint64_t own = (uint64_t)p->own_state();
    if (f->held) {
        if (!read_state(p, own, part)) return 0;
        *holds = hak_python_word(part, f->state_status) >> ACTIVE & 1;
    } else { /* the state of a subinterpreter is not the thread's own one there */
        uint64_t holding = (uint64_t)p->holding_state();
        *holds = read_state(p, holding, part);
        if (!*holds && !read_state(p, own, part)) return 0;
    }
    uint64_t frame = hak_python_word(part, f->state_frame);
    if (f->indirect && !hak_os_copy(frame + f->c_frame, &frame, sizeof frame)) return 0;
    return frame;
}

/* ---- the walk ----------------------------------------------------------------------------------
 */

typedef struct walk {
    const python *python;
    hak_python_reader reader;
    uint64_t frame; /* the next one; 0: the end */
    uint64_t code, instruction;
    bool shim;  /* it stands between two evaluation loops and runs nothing */
    bool entry; /* marked as the outermost of its loop */
} walk;

/* Reads the next frame. */
static bool step(walk *w) {
    enum { OWNED_BY_C = 3 };
    const hak_python_fields *f = w->reader.fields;
    unsigned char part[HAK_PYTHON_PART_MOST];
    if (!w->frame || w->frame % sizeof(uint64_t) ||
        !hak_python_read(&w->reader, w->frame, part, f->frame_bytes))
        return false;
    /* the two lowest bits say how the frame holds it */
    w->code = hak_python_word(part, f->frame_code) & ~UINT64_C(3);
    w->instruction = hak_python_word(part, f->frame_instruction);
    w->shim = part[f->frame_owner] >= OWNED_BY_C;
    w->entry = f->marked && part[f->frame_entry];
    w->frame = hak_python_word(part, f->frame_previous);
    return true;
}

/* Says what the frame runs. False: no code object (*wrong), or one that stands for no source. */
static bool describe_frame(walk *w, hak_python_frame *frame, bool *wrong) {
    const hak_python_fields *f = w->reader.fields;
    unsigned char part[HAK_PYTHON_PART_MOST];
    *wrong = w->code % sizeof(uint64_t) ||
             !hak_python_read(&w->reader, w->code, part, f->code_bytes) ||
             hak_python_word(part, sizeof(uint64_t)) != w->python->code_type;
    if (*wrong) return false;
    uint64_t file = hak_python_word(part, f->code_file), name = hak_python_word(part, f->code_name);
    uint32_t first_line = (uint32_t)hak_python_word(part, f->code_first_line);
    if (!first_line && file == name) return false; /* what calls __init__ */
    *frame = (hak_python_frame){.code = (const void *)w->code, .first_line = first_line};
    frame->name_bytes = hak_python_text(&w->reader, name, &frame->name);
    frame->file_bytes = hak_python_text(&w->reader, file, &frame->file);
    uint64_t instructions = w->code + f->code_instructions;
    frame->line = w->instruction < instructions
                      ? first_line
                      : hak_python_line(&w->reader, hak_python_word(part, f->code_lines),
                                        first_line, w->instruction - instructions);
    return true;
}

/* Marks the end of an evaluation loop's frames, of which there may be none. */
static uint32_t end_loop(hak_python_frame *frames, uint32_t count, uint32_t loop) {
    if (count == loop) frames[count++] = (hak_python_frame){.name = "", .file = ""};
    frames[count - 1].entry = true;
    return count;
}

static uint32_t walk_frames(walk *w, hak_python_frame *frames, uint32_t most) {
    uint32_t count = 0, loop = 0; /* where the loop's frames begin */
    /* A chain that is wrong may be a ring; each frame of a right one has at most a shim, and a call
     * of __init__, to itself. */
    for (uint32_t steps = 0; steps < (most + 1) * 3 && step(w); steps++) {
        if (w->shim) {
            if (count < most || count > loop) count = end_loop(frames, count, loop);
            loop = count;
            continue;
        }
        if (count == most) return count;
        bool wrong;
        if (describe_frame(w, &frames[count], &wrong)) frames[count++].entry = w->entry;
        else if (wrong) return 0;
    }
    if (w->frame) return 0; /* one that cannot be read, or a ring */
    if (count > loop) frames[count - 1].entry = true;
    return count;
}

static uint32_t frames_of(python *p, hak_python_frame *frames, uint32_t most, char *room,
                          uint32_t room_bytes) {
    /* Relaxed: a walk that is not trusted yet is slower, not wrong. Partner: the store below. */
    bool holds = false, trusted = hak_load_relaxed(&p->trusted);
    walk w = {.python = p, .frame = innermost(p, &holds)};
    w.reader = (hak_python_reader){.fields = &p->fields,
                                   .bytes_type = p->bytes_type,
                                   .text_type = p->text_type,
                                   .direct = holds && trusted,
                                   .room = room,
                                   .room_bytes = room_bytes};
    uint32_t found = walk_frames(&w, frames, most);
    if (found && !trusted && !w.reader.odd) hak_store_relaxed(&p->trusted, 1);
    return found;
}

/* The frames of the calling thread, innermost first, `most` at most; 0: it has none. Texts that
 * cannot be lent are written into `room`. Never waits; leaves errno as it was. */
uint32_t hak_python_frames(hak_python_frame *frames, uint32_t most, char *room,
                           uint32_t room_bytes) {
    if (asking || !most) return 0;
    asking = true;
    uint32_t found = 0, there = 0, known;
    do {
        /* Acquire: what was written before the count. Partner: the release in look_at. */
        known = hak_load_acquire(&python_count);
        for (uint32_t i = 0; i < known && !found; i++)
            if (is_there(&pythons[i])) {
                there++;
                found = frames_of(&pythons[i], frames, most, room, room_bytes);
            }
    } while (!there && look_again(known));
    asking = false;
    return found;
}
