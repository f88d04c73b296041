/* The decoder's state, and its threads: they spin while a token is computed and sleep after it. */
#ifndef DECODE_THREADS_H
#define DECODE_THREADS_H
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <unistd.h>

#include "block_weights.h"
#include "decode_products.h"

#if defined(__x86_64__)
#define RELAX() _mm_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ __volatile__("yield")
#else
#define RELAX() ((void)0)
#endif
/* Spins before a waiting thread lets others on its core, and before it sleeps between tokens. */
enum { SPINS_TO_YIELD = 4000, SPINS_TO_SLEEP = 20000 };

/* Keys and values of a block: [kv_heads][capacity][head_dim]. The rows first .. next - 1 are seen,
 * the new token becomes row `next`. A LoRA adds (x A) B to the packed projections, with A
 * [hidden][ranks] and B [ranks][qkv]; ranks is 0 without one. */
typedef struct {
    float *keys, *values;
    int64_t capacity, first, next, ranks;
    const float *lora_a, *lora_b;
} Rows;

typedef struct Decoder Decoder;
typedef void (*Job)(Decoder *, int thread);
typedef struct {
    Decoder *decoder;
    int number;
} Worker;

struct Decoder {
    Shape shape;
    Block *weights;
    const float *final_norm, *cosines, *sines;
    float *residual, *qkv, *attended, *inner;
    Activations *activations; /* per thread */
    float **scores;           /* per thread */
    int64_t scores_size;
    /* The job at hand. */
    Job job;
    const Rows *rows;
    int64_t position;
    const float *input;
    float *output;
    const int8_t *codes;
    const float *scales;
    int64_t vocabulary;
    /* Threads. */
    pthread_mutex_t use, sleep;
    pthread_cond_t wake;
    pthread_t *handles;
    Worker *workers;
    int started, stop;
    pid_t process;
    atomic_uint generation, sleeping;
    _Alignas(64) atomic_uint arrived;
    _Alignas(64) atomic_uint phase;
};

static void meet(Decoder *d) {
    if (d->shape.threads == 1) return;
    unsigned phase = atomic_load_explicit(&d->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&d->arrived, 1, memory_order_acq_rel) + 1 ==
        (unsigned)d->shape.threads) {
        atomic_store_explicit(&d->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&d->phase, phase + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&d->phase, memory_order_acquire) == phase; spins++) {
        if (spins < SPINS_TO_YIELD)
            RELAX();
        else
            sched_yield();
    }
}

static void *work(void *argument) {
    Worker *worker = argument;
    Decoder *d = worker->decoder;
    unsigned seen = 0;
    for (;;) {
        int spins = 0;
        while (atomic_load_explicit(&d->generation, memory_order_acquire) == seen) {
            if (++spins < SPINS_TO_SLEEP) {
                RELAX();
                continue;
            }
            pthread_mutex_lock(&d->sleep);
            atomic_fetch_add(&d->sleeping, 1);
            while (atomic_load(&d->generation) == seen) pthread_cond_wait(&d->wake, &d->sleep);
            atomic_fetch_sub(&d->sleeping, 1);
            pthread_mutex_unlock(&d->sleep);
        }
        seen++;
        if (d->stop) return NULL;
        d->job(d, worker->number);
    }
}

static void wake_all(Decoder *d) {
    atomic_fetch_add(&d->generation, 1);
    if (atomic_load(&d->sleeping)) {
        pthread_mutex_lock(&d->sleep);
        pthread_cond_broadcast(&d->wake);
        pthread_mutex_unlock(&d->sleep);
    }
}

/* A forked child has no threads but its own, so they are counted per process. */
static int start_workers(Decoder *d) {
    if (d->shape.threads == 1 || (d->started && d->process == getpid())) return 0;
    pthread_mutex_init(&d->sleep, NULL);
    pthread_cond_init(&d->wake, NULL);
    atomic_store(&d->generation, 0);
    atomic_store(&d->sleeping, 0);
    atomic_store(&d->arrived, 0);
    d->process = getpid();
    d->started = 1;
    for (int i = 1; i < d->shape.threads; i++) {
        d->workers[i] = (Worker){d, i};
        if (pthread_create(&d->handles[i], NULL, work, &d->workers[i])) {
            /* Fewer threads give the same results. */
            d->shape.threads = i;
            break;
        }
    }
    return 0;
}

static void run(Decoder *d, Job job) {
    start_workers(d);
    d->job = job;
    if (d->shape.threads > 1) wake_all(d);
    job(d, 0);
}

#endif
