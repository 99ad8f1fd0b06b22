/* Who calls the kernels, and whether they are to compute. */
#define _GNU_SOURCE
#include "kernels.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

static struct plugin plugin;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static const void *_Atomic first_caller;
static atomic_bool enabled;
static atomic_ullong computed;

static void find(void) {
    Dl_info where;
    if (!dladdr(atomic_load(&first_caller), &where)) return;
    void *library = dlopen(where.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    if (!library) return;
    plugin.multiply = (sgemm *)dlsym(library, "llamafile_sgemm");
    plugin.multiply_in_tiles = (tiles *)dlsym(library, "ggml_compute_forward_mul_mat_tiled");
    plugin.attend = (attention *)dlsym(library, "ggml_compute_forward_flash_attn_ext");
    plugin.barrier = (void (*)(void *))dlsym(library, "ggml_barrier");
    plugin.set_chunk = (void (*)(void *, int))dlsym(library, "ggml_threadpool_chunk_set");
    plugin.next_chunk = (int (*)(void *, int))dlsym(library, "ggml_threadpool_chunk_add");
}

const struct plugin *plugin_at(const void *caller) {
    if (!atomic_load_explicit(&first_caller, memory_order_relaxed)) atomic_store(&first_caller, caller);
    pthread_once(&once, find);
    return &plugin;
}

bool kernels_compute(const struct params *params, const struct plugin *ggml) {
    return atomic_load_explicit(&enabled, memory_order_relaxed) && !params->use_reference && ggml->barrier &&
           ggml->set_chunk && ggml->next_chunk;
}

void begin_pieces(const struct params *params, const struct plugin *ggml) {
    if (params->ith == 0) {
        ggml->set_chunk(params->threadpool, params->nth);
        atomic_fetch_add_explicit(&computed, 1, memory_order_relaxed);
    }
    ggml->barrier(params->threadpool);
}

/* ---- for Python ---- */

/* Whether kernels are to compute; the caller knows that the processor can. */
EXPORT void appliance_kernels_enable(bool wanted) { atomic_store(&enabled, wanted); }

/* How many operations they computed. */
EXPORT unsigned long long appliance_kernels_computed(void) { return atomic_load(&computed); }
