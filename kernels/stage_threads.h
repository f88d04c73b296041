/* Threads that share the chunks of one stage after another, and sleep when there is none.
 *
 * A chunk goes to whoever asks first, so a thread that is kept from its core delays the chunk that it
 * has and no other. Results must not depend on who computes a chunk. */
#ifndef STAGE_THREADS_H
#define STAGE_THREADS_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() ((void)0)
#endif
/* Turns of waiting before a thread lets others on its core, and before a worker sleeps. */
enum { TURNS_TO_YIELD = 4000, TURNS_TO_SLEEP = 20000, MOST_CHUNKS = 65535 };

typedef struct Stages Stages;
typedef void (*Stage)(void *context, int chunk, int thread);
typedef struct {
    Stages *stages;
    int number;
} StageWorker;

struct Stages {
    int threads;
    const uint8_t *cpus; /* [threads][128], bits of the CPUs of each; NULL: all */
    void *context;
    Stage stage;
    pthread_t *handles;
    StageWorker *workers;
    pthread_mutex_t sleep;
    pthread_cond_t wake;
    pid_t process;
    int started;
    uint32_t serial;
    atomic_int stop;
    atomic_uint sleeping;
    /* Number of the stage (32 bits), its chunks (16), and the next one (16): one word, so that a
     * thread that comes late cannot take a chunk of another stage. */
    _Alignas(64) atomic_uint_fast64_t word;
    _Alignas(64) atomic_uint done;
};

static inline int chunks_of(uint64_t word) { return (int)(word >> 16 & 0xffff); }
static inline int next_of(uint64_t word) { return (int)(word & 0xffff); }

static void share(Stages *s, int thread) {
    uint64_t word = atomic_load_explicit(&s->word, memory_order_acquire);
    while (next_of(word) < chunks_of(word)) {
        if (!atomic_compare_exchange_weak_explicit(&s->word, &word, word + 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        s->stage(s->context, next_of(word), thread);
        atomic_fetch_add_explicit(&s->done, 1, memory_order_release);
        word = atomic_load_explicit(&s->word, memory_order_acquire);
    }
}

static void *stage_worker(void *argument) {
    StageWorker *worker = argument;
    Stages *s = worker->stages;
#if defined(__linux__)
    /* What the system refuses is left as it was. */
    if (s->cpus) sched_setaffinity(0, 128, (const cpu_set_t *)(s->cpus + 128 * worker->number));
#endif
    for (int turns = 0;;) {
        uint64_t word = atomic_load_explicit(&s->word, memory_order_acquire);
        if (next_of(word) < chunks_of(word)) {
            share(s, worker->number);
            turns = 0;
        } else if (atomic_load(&s->stop)) {
            return NULL;
        } else if (++turns < TURNS_TO_SLEEP) {
            PAUSE();
        } else {
            pthread_mutex_lock(&s->sleep);
            atomic_fetch_add(&s->sleeping, 1);
            while (atomic_load(&s->word) == word && !atomic_load(&s->stop))
                pthread_cond_wait(&s->wake, &s->sleep);
            atomic_fetch_sub(&s->sleeping, 1);
            pthread_mutex_unlock(&s->sleep);
            turns = 0;
        }
    }
}

static void wake_sleepers(Stages *s) {
    if (!atomic_load(&s->sleeping)) return;
    pthread_mutex_lock(&s->sleep);
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->sleep);
}

/* A forked child has no threads but its own, so they are counted per process. */
static void start_stage_workers(Stages *s) {
    if (s->threads == 1 || (s->started && s->process == getpid())) return;
    pthread_mutex_init(&s->sleep, NULL);
    pthread_cond_init(&s->wake, NULL);
    atomic_store(&s->sleeping, 0);
    s->process = getpid();
    s->started = 1;
    for (int i = 1; i < s->threads; i++) {
        s->workers[i] = (StageWorker){s, i};
        if (pthread_create(&s->handles[i], NULL, stage_worker, &s->workers[i])) {
            /* Fewer threads give the same results. */
            s->threads = i;
            break;
        }
    }
}

/* Do all chunks of a stage; the caller is thread 0. */
static void run_stage(Stages *s, Stage stage, int chunks) {
    if (s->threads == 1 || chunks < 2) {
        for (int i = 0; i < chunks; i++) stage(s->context, i, 0);
        return;
    }
    s->stage = stage;
    atomic_store_explicit(&s->done, 0, memory_order_relaxed);
    /* Sequentially consistent, as a worker looks at the word once more before it sleeps. */
    atomic_store(&s->word, (uint64_t)++s->serial << 32 | (uint64_t)chunks << 16);
    wake_sleepers(s);
    share(s, 0);
    for (int turns = 0;
         atomic_load_explicit(&s->done, memory_order_acquire) != (unsigned)chunks; turns++) {
        if (turns < TURNS_TO_YIELD)
            PAUSE();
        else
            sched_yield();
    }
}

static void stop_stage_workers(Stages *s) {
    if (!s->started || s->process != getpid()) return;
    pthread_mutex_lock(&s->sleep);
    atomic_store(&s->stop, 1);
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->sleep);
    for (int i = 1; i < s->threads; i++) pthread_join(s->handles[i], NULL);
}

#endif
