/* One token through all blocks of a Llama-like model, and the logits of its state.
 *
 * Decoding reads every weight once per token, so memory sets the pace. Weights are packed so that
 * one pass over them in order feeds full vectors: 16 rows side by side, 4 columns of each in one
 * 32-bit lane, which is what the dot products of 8-bit integers (VNNI) want; no sum is ever taken
 * across lanes. Activations are rounded to 16 bits per block of 32 (two 8-bit halves for VNNI), so
 * results differ from float32 ones by less than float16 would.
 *
 * A matrix is a row of groups of 16 rows. A group is, for `n` blocks of 32 columns:
 *   scales   float16 [n][16], padded to 64 bytes
 *   minima   float16 [n][16], padded to 64 bytes (4-bit codes only)
 *   codes    uint8 [n][8][16 rows][4 columns], offset by 128, or
 *            uint8 [n][4][16 rows][4 columns], columns 0-15 in the low halves, 16-31 in the high
 * Scales and minima are to be multiplied by the matrix's factor.
 *
 * Each row is summed by one thread in one order: results do not depend on the number of threads.
 */
#include "decode_products.h"
#include "decode_threads.h"

/* Rows 16 * group and on of a matrix, times the thread's activations. */
static inline void product(const Decoder *d, const uint8_t *matrix, int columns, float factor,
                           const float *bias, int group, const Activations *a, float *y) {
    const uint8_t *at = matrix + (size_t)group * group_bytes(d->shape.bits, columns);
    if (d->shape.bits == 8)
        sixteen_rows_8(at, columns / COLUMNS, a, y);
    else
        sixteen_rows_4(at, columns / COLUMNS, a, y);
    for (int i = 0; i < ROWS; i++) y[i] = y[i] * factor + (bias ? bias[ROWS * group + i] : 0.0f);
}

/* ---- jobs; each ends with all threads meeting ---- */

static void range(const Decoder *d, int64_t count, int thread, int64_t *start, int64_t *stop) {
    *start = count * thread / d->shape.threads;
    *stop = count * (thread + 1) / d->shape.threads;
}

static void reduce(const Rows *rows, const float *x, int hidden, float *reduced) {
    int64_t ranks = rows->ranks;
    memset(reduced, 0, (size_t)ranks * sizeof(float));
    for (int i = 0; i < hidden; i++)
        for (int64_t r = 0; r < ranks; r++) reduced[r] += x[i] * rows->lora_a[i * ranks + r];
}

static void expand(const Rows *rows, const float *reduced, int qkv, int64_t group, float *y) {
    for (int64_t r = 0; r < rows->ranks; r++) {
        const float *b = rows->lora_b + r * qkv + ROWS * group;
        for (int i = 0; i < ROWS; i++) y[i] += reduced[r] * b[i];
    }
}

static void attend(Decoder *d, const Rows *rows, int head, float *scores, float *scratch) {
    const Shape *s = &d->shape;
    int size = s->head_dim, shared = s->heads / s->kv_heads, kv = head / shared;
    const float *cosines = d->cosines + d->position * (size / 2);
    const float *sines = d->sines + d->position * (size / 2);
    float *query = scratch, *key = scratch + size, *mixed = d->attended + (int64_t)head * size;
    const float *value = d->qkv + (int64_t)(s->heads + s->kv_heads + kv) * size;
    rotate(d->qkv + (int64_t)head * size, cosines, sines, size / 2, query);
    /* Heads that share a key turn it each for themselves, so that none waits for another. */
    rotate(d->qkv + (int64_t)(s->heads + kv) * size, cosines, sines, size / 2, key);
    float *keys = rows->keys + (int64_t)kv * rows->capacity * size;
    float *values = rows->values + (int64_t)kv * rows->capacity * size;
    float scale = 1.0f / sqrtf((float)size), largest = dot(query, key, size) * scale, sum = 0;
    int64_t seen = rows->next - rows->first;
    scores[seen] = largest;
    for (int64_t i = 0; i < seen; i++) {
        scores[i] = dot(query, keys + (rows->first + i) * size, size) * scale;
        largest = scores[i] > largest ? scores[i] : largest;
    }
    for (int64_t i = 0; i <= seen; i++) {
        scores[i] = exponential(scores[i] - largest);
        sum += scores[i];
    }
    for (int i = 0; i < size; i++) mixed[i] = scores[seen] * value[i];
    for (int64_t row = 0; row < seen; row++) {
        const float *from = values + (rows->first + row) * size;
        for (int i = 0; i < size; i++) mixed[i] += scores[row] * from[i];
    }
    for (int i = 0; i < size; i++) mixed[i] /= sum;
    if (head % shared == 0) {
        memcpy(keys + rows->next * size, key, (size_t)size * sizeof(float));
        memcpy(values + rows->next * size, value, (size_t)size * sizeof(float));
    }
}

static void step(Decoder *d, int thread) {
    const Shape *s = &d->shape;
    const Activations *a = &d->activations[thread];
    int hidden = s->hidden, attended = s->heads * s->head_dim;
    int qkv = (s->heads + 2 * s->kv_heads) * s->head_dim;
    float y[ROWS], up[ROWS];
    int64_t start, stop;
    for (int index = 0; index < s->blocks; index++) {
        const Block *w = &d->weights[index];
        const Rows *rows = &d->rows[index];
        /* Scores come after the projections, so their room is free for a LoRA. */
        float *reduced = d->scores[thread];
        normalise(d->residual, w->attention_norm, hidden, s->norm_epsilon, a->floats);
        reduce(rows, a->floats, hidden, reduced);
        round_activations(a->floats, hidden, a);
        range(d, qkv / ROWS, thread, &start, &stop);
        for (int64_t g = start; g < stop; g++) {
            product(d, w->qkv, hidden, w->qkv_factor, w->qkv_bias, (int)g, a, d->qkv + ROWS * g);
            expand(rows, reduced, qkv, g, d->qkv + ROWS * g);
        }
        meet(d);
        range(d, s->heads, thread, &start, &stop);
        for (int64_t head = start; head < stop; head++)
            attend(d, rows, (int)head, d->scores[thread], a->floats);
        meet(d);
        round_activations(d->attended, attended, a);
        range(d, hidden / ROWS, thread, &start, &stop);
        for (int64_t g = start; g < stop; g++) {
            product(d, w->output, attended, w->output_factor, w->output_bias, (int)g, a, y);
            for (int i = 0; i < ROWS; i++) d->residual[ROWS * g + i] += y[i];
        }
        meet(d);
        normalise(d->residual, w->ffn_norm, hidden, s->norm_epsilon, a->floats);
        round_activations(a->floats, hidden, a);
        range(d, s->ffn / ROWS, thread, &start, &stop);
        for (int64_t g = start; g < stop; g++) {
            product(d, w->ffn_in, hidden, w->ffn_in_factor, w->ffn_in_bias, (int)g, a, y);
            product(d, w->ffn_in, hidden, w->ffn_in_factor, w->ffn_in_bias,
                    (int)g + s->ffn / ROWS, a, up);
            for (int i = 0; i < ROWS; i++)
                d->inner[ROWS * g + i] = y[i] / (1.0f + exponential(-y[i])) * up[i];
        }
        meet(d);
        round_activations(d->inner, s->ffn, a);
        range(d, hidden / ROWS, thread, &start, &stop);
        for (int64_t g = start; g < stop; g++) {
            product(d, w->ffn_out, s->ffn, w->ffn_out_factor, w->ffn_out_bias, (int)g, a, y);
            for (int i = 0; i < ROWS; i++) d->residual[ROWS * g + i] += y[i];
        }
        meet(d);
    }
}

static void score(Decoder *d, int thread) {
    const Activations *a = &d->activations[thread];
    int columns = d->shape.hidden, blocks = columns / COLUMNS;
    int64_t start, stop;
    round_activations(d->input, columns, a);
    range(d, d->vocabulary, thread, &start, &stop);
    for (int64_t row = start; row < stop; row++)
        d->output[row] = one_row(d->codes + row * columns, d->scales + row * blocks, blocks, a);
    meet(d);
}

/* ---- what Python calls ---- */

void decoder_close(Decoder *d) {
    if (!d) return;
    if (d->started && d->process == getpid()) {
        d->stop = 1;
        wake_all(d);
        for (int i = 1; i < d->shape.threads; i++) pthread_join(d->handles[i], NULL);
    }
    for (int i = 0; d->activations && i < d->shape.threads; i++) {
        Activations *a = &d->activations[i];
        free(a->high), free(a->low), free(a->whole), free(a->scale), free(a->sum);
        free(a->shift), free(a->floats);
        if (d->scores) free(d->scores[i]);
    }
    free(d->activations), free(d->scores), free(d->weights), free(d->residual), free(d->qkv);
    free(d->attended), free(d->inner), free(d->handles), free(d->workers), free(d);
}

/* NULL if there is no memory. The weights stay the caller's. */
Decoder *decoder_open(const Shape *shape, const Block *weights, const float *final_norm,
                      const float *cosines, const float *sines) {
    Decoder *d = aligned(sizeof(Decoder));
    if (!d) return NULL;
    const Shape *s = shape;
    size_t threads = (size_t)s->threads, hidden = (size_t)s->hidden, ffn = (size_t)s->ffn;
    size_t attended = (size_t)s->heads * (size_t)s->head_dim;
    size_t widest = hidden > ffn ? hidden : ffn;
    widest = widest > attended ? widest : attended;
    /* A query and a key lie there too. */
    widest = padded(widest > 2 * (size_t)s->head_dim ? widest : 2 * (size_t)s->head_dim);
    d->shape = *shape;
    d->final_norm = final_norm, d->cosines = cosines, d->sines = sines;
    d->weights = aligned(sizeof(Block) * (size_t)s->blocks);
    d->residual = aligned(hidden * 4);
    d->qkv = aligned((attended + 2 * (size_t)s->kv_heads * (size_t)s->head_dim) * 4);
    d->attended = aligned(attended * 4);
    d->inner = aligned(ffn * 4);
    d->activations = aligned(sizeof(Activations) * threads);
    d->scores = aligned(sizeof(float *) * threads);
    d->handles = aligned(sizeof(pthread_t) * threads);
    d->workers = aligned(sizeof(Worker) * threads);
    int complete = d->weights && d->residual && d->qkv && d->attended && d->inner &&
                   d->activations && d->scores && d->handles && d->workers;
    for (size_t i = 0; complete && i < threads; i++) {
        Activations *a = &d->activations[i];
        a->high = aligned(widest), a->low = aligned(widest), a->whole = aligned(widest * 2);
        a->scale = aligned(widest / 8), a->sum = aligned(widest / 8);
        a->shift = aligned(widest / 8), a->floats = aligned(widest * 4);
        complete = a->high && a->low && a->whole && a->scale && a->sum && a->shift && a->floats;
    }
    if (!complete) {
        decoder_close(d);
        return NULL;
    }
    memcpy(d->weights, weights, sizeof(Block) * (size_t)s->blocks);
    pthread_mutex_init(&d->use, NULL);
    return d;
}

/* The final state of a token; its keys and values go into `rows`. Nonzero if there is no memory. */
int decoder_step(Decoder *d, const float *embedding, int64_t position, const Rows *rows,
                 float *final) {
    const Shape *s = &d->shape;
    int64_t most = 0;
    for (int i = 0; i < s->blocks; i++) {
        if (rows[i].next - rows[i].first > most) most = rows[i].next - rows[i].first;
        if (rows[i].ranks > most) most = rows[i].ranks;
    }
    pthread_mutex_lock(&d->use);
    if (most + 1 > d->scores_size) {
        int64_t size = 2 * most + 256;
        for (int i = 0; i < s->threads; i++) {
            free(d->scores[i]);
            if (!(d->scores[i] = aligned((size_t)size * 4))) {
                d->scores_size = 0;
                pthread_mutex_unlock(&d->use);
                return 1;
            }
        }
        d->scores_size = size;
    }
    memcpy(d->residual, embedding, (size_t)s->hidden * sizeof(float));
    d->position = position, d->rows = rows;
    run(d, step);
    normalise(d->residual, d->final_norm, s->hidden, s->norm_epsilon, final);
    pthread_mutex_unlock(&d->use);
    return 0;
}

/* Products of a state with every row of a table of codes [vocabulary][hidden]. */
void decoder_logits(Decoder *d, const float *final, const int8_t *codes, const float *scales,
                    int64_t vocabulary, float *logits) {
    pthread_mutex_lock(&d->use);
    d->input = final, d->codes = codes, d->scales = scales;
    d->vocabulary = vocabulary, d->output = logits;
    run(d, score);
    pthread_mutex_unlock(&d->use);
}
