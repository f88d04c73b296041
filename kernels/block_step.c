/* Many tokens through some blocks of a Llama-like model, behind rows of keys and values.
 *
 * What decode_step.c does for one token, with its weights and its rounding of activations, for the
 * tokens of several questions: they share each pass over the weights, and attend each to itself alone.
 * A token's results do not depend on the other texts, nor on the number of threads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "block_stages.h"

/* Whether this library was made for a processor that it is fast on. */
int blocks_are_tuned(void) {
#if defined(USE_VNNI)
    return 1;
#else
    return 0;
#endif
}

void blocks_close(Blocks *t) {
    if (!t) return;
    stop_stage_workers(&t->stages);
    for (int i = 0; i < t->shape.threads; i++) {
        if (t->floats) free(t->floats[i]);
        if (t->attending) free(t->attending[i].queries), free(t->attending[i].scores);
    }
    free(t->qkv), free(t->attended), free(t->inner), free(t->reduced), free(t->tiles.whole);
    free(t->tiles.scale), free(t->tiles.sum), free(t->tiles.shift), free(t->floats);
    free(t->attending), free(t->weights), free(t->cpus), free(t->stages.handles);
    free(t->stages.workers), free(t);
}

/* NULL if there is no memory or heads are too large. The weights stay the caller's. `cpus`: see
 * `Stages`, or NULL. */
Blocks *blocks_open(const Shape *shape, const Block *weights, const float *final_norm,
                    const float *cosines, const float *sines, const uint8_t *cpus) {
    Blocks *t = shape->head_dim <= MOST_HEAD_DIM ? aligned(sizeof(Blocks)) : NULL;
    if (!t) return NULL;
    size_t threads = (size_t)shape->threads;
    size_t widest = (size_t)(shape->hidden > shape->ffn ? shape->hidden : shape->ffn);
    t->shape = *shape;
    t->final_norm = final_norm, t->cosines = cosines, t->sines = sines;
    t->weights = aligned(sizeof(Block) * (size_t)shape->blocks);
    t->floats = aligned(sizeof(float *) * threads);
    t->attending = aligned(sizeof(Attending) * threads);
    t->stages.handles = aligned(sizeof(pthread_t) * threads);
    t->stages.workers = aligned(sizeof(StageWorker) * threads);
    t->cpus = cpus ? aligned(128 * threads) : NULL;
    int complete = t->weights && t->floats && t->attending && t->stages.handles &&
                   t->stages.workers && (t->cpus || !cpus);
    for (size_t i = 0; complete && i < threads; i++) {
        t->floats[i] = aligned(widest * 4);
        t->attending[i].queries = aligned((size_t)shape->head_dim * LANES * 4);
        complete = t->floats[i] && t->attending[i].queries;
    }
    if (!complete) {
        blocks_close(t);
        return NULL;
    }
    memcpy(t->weights, weights, sizeof(Block) * (size_t)shape->blocks);
    if (cpus) memcpy(t->cpus, cpus, 128 * threads);
    t->stages.threads = shape->threads, t->stages.context = t, t->stages.cpus = t->cpus;
    pthread_mutex_init(&t->use, NULL);
    return t;
}

static int resized(float **array, size_t count) {
    free(*array);
    return (*array = aligned(count * 4)) != NULL;
}

/* Room for so many tokens and rows of scores; nonzero if there is no memory. */
static int make_room(Blocks *t, size_t tokens, size_t rows, size_t ranks) {
    const Shape *s = &t->shape;
    if (tokens * ranks > t->reductions) {
        t->reductions = 0;
        if (!resized(&t->reduced, tokens * ranks)) return 1;
        t->reductions = tokens * ranks;
    }
    if (tokens > t->room) {
        size_t whole = tiles_of(tokens) * TILE, attended = (size_t)(s->heads * s->head_dim);
        size_t widest = (size_t)(s->hidden > s->ffn ? s->hidden : s->ffn);
        widest = widest > attended ? widest : attended;
        size_t qkv = (size_t)((s->heads + 2 * s->kv_heads) * s->head_dim);
        t->room = 0;
        if (!resized(&t->qkv, whole * qkv) || !resized(&t->attended, whole * attended) ||
            !resized(&t->inner, whole * (size_t)s->ffn) ||
            !resized((float **)&t->tiles.whole, whole * widest / 2 + 16) ||
            !resized(&t->tiles.scale, whole * widest / COLUMNS) ||
            !resized(&t->tiles.sum, whole * widest / COLUMNS) ||
            !resized((float **)&t->tiles.shift, whole * widest / COLUMNS))
            return 1;
        t->room = whole;
    }
    if (rows > t->rows) {
        t->rows = 0;
        for (int i = 0; i < s->threads; i++)
            if (!resized(&t->attending[i].scores, rows * LANES)) return 1;
        t->rows = rows;
    }
    return 0;
}

/* Nonzero: 1 if there is no memory, 2 if this library is not tuned for the processor. */
int blocks_run(Blocks *t, const Pass *pass) {
#if defined(USE_VNNI)
    size_t rows = 0;
    for (int i = 0; i < pass->texts; i++) {
        size_t seen = (size_t)(pass->offsets[i + 1] - pass->offsets[i] + pass->front_stop[i] -
                               pass->front_first[i]);
        rows = seen > rows ? seen : rows;
    }
    pthread_mutex_lock(&t->use);
    int failed = make_room(t, (size_t)pass->tokens, rows + 4, (size_t)pass->ranks);
    if (!failed) {
        start_stage_workers(&t->stages);
        t->pass = pass;
        all_blocks(t);
    }
    pthread_mutex_unlock(&t->use);
    return failed;
#else
    (void)t, (void)pass;
    return 2;
#endif
}

/* Products of states [states][hidden] with every row of a table of codes [vocabulary][hidden]. */
int blocks_logits(Blocks *t, const float *finals, int32_t states, const int8_t *codes,
                  const float *scales, int64_t vocabulary, float *logits) {
#if defined(USE_VNNI)
    int columns = t->shape.hidden, blocks = columns / COLUMNS;
    pthread_mutex_lock(&t->use);
    int failed = make_room(t, (size_t)states, 0, 0);
    for (int state = 0; !failed && state < states; state++)
        for (int block = 0; block < blocks; block++) {
            /* In the order of columns here: a row of the table is as it is. */
            const float *x = finals + (int64_t)state * columns + block * COLUMNS;
            int16_t *whole = t->tiles.whole + (int64_t)state * columns + block * COLUMNS;
            float largest = 0;
            for (int i = 0; i < COLUMNS; i++) largest = fmaxf(largest, fabsf(x[i]));
            float factor = largest > 0 ? LARGEST / largest : 0;
            for (int i = 0; i < COLUMNS; i++) whole[i] = (int16_t)lrintf(x[i] * factor);
            t->tiles.scale[state * blocks + block] = largest / LARGEST;
        }
    if (!failed) {
        start_stage_workers(&t->stages);
        t->codes = codes, t->scales = scales, t->vocabulary = vocabulary;
        t->logits = logits, t->states = states;
        run_stage(&t->stages, logits_stage, (int)((vocabulary + LOGIT_ROWS - 1) / LOGIT_ROWS));
    }
    pthread_mutex_unlock(&t->use);
    return failed;
#else
    (void)t, (void)finals, (void)states, (void)codes, (void)scales, (void)vocabulary, (void)logits;
    return 2;
#endif
}
