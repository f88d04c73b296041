/* The stages of a pass through blocks, see block_step.c: a chunk is a text and a key head, a tile of
 * tokens, or 16 rows of a matrix. */
#ifndef BLOCK_STAGES_H
#define BLOCK_STAGES_H
#include "block_attention.h"
#include "block_weights.h"
#include "stage_threads.h"

enum { MOST_HEAD_DIM = 512 };

/* One run. Arrays are packed, text after text. */
typedef struct {
    int32_t texts, tokens, first_block, stop_block, finals, ranks;
    const int32_t *offsets;                   /* [texts + 1], tokens */
    const int32_t *positions;                 /* [texts], of each first token */
    const int32_t *front_first, *front_stop;  /* [texts], rows in front that a text sees */
    const int32_t *wanted;                    /* [finals], ascending: rows that leave the model */
    const int32_t *wanted_offsets;            /* [texts + 1] */
    int64_t front_rows;                       /* of each key and value head */
    const Front *fronts;                      /* [blocks] */
    const float *qkv;                         /* [tokens][qkv], of the first block; NULL: make it */
    const float *const *lora_a, *const *lora_b; /* [blocks + 1], as in decode_step.c; NULL: none */
    float *residual;                          /* [tokens][hidden], in and out */
    float *next;                              /* [tokens][qkv], out; of block `stop_block`; or NULL */
    float *keys, *values;                     /* [blocks][kv_heads][tokens][head_dim], out */
    float *final;                             /* [finals][hidden], out; only of the last block */
} Pass;

typedef struct Blocks Blocks;
typedef void (*Group)(Blocks *, int group);

struct Blocks {
    Shape shape;
    Block *weights;
    const float *final_norm, *cosines, *sines;
    uint8_t *cpus;
    Stages stages;
    pthread_mutex_t use;
    /* Room for `room` tokens, for rows of scores, and for what a LoRA reduces tokens to. */
    size_t room, rows, reductions;
    float *qkv, *attended, *inner, *stream, *reduced;
    Tiles tiles;
    float **floats;       /* per thread: the widest row */
    Attending *attending; /* per thread */
    /* The run and the block at hand. */
    const Pass *pass;
    const float *packed;
    float *projected;
    int block, queries, tokens;
    const int32_t *query_offsets;
    /* Scores of the whole vocabulary. */
    const int8_t *codes;
    const float *scales;
    int64_t vocabulary;
    float *logits;
    int states;
    Group group;
};

#if defined(USE_VNNI)
enum { LOGIT_ROWS = 256 };

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static int qkv_size(const Shape *s) { return (s->heads + 2 * s->kv_heads) * s->head_dim; }

/* The keys and values of a text, and what its queries attend to. */
static void attend_stage(void *context, int chunk, int thread) {
    Blocks *t = context;
    const Pass *p = t->pass;
    const Shape *s = &t->shape;
    int size = s->head_dim, shared = s->heads / s->kv_heads, half = size / 2;
    int text = chunk / s->kv_heads, kv = chunk % s->kv_heads, width = qkv_size(s);
    int first = p->offsets[text], tokens = p->offsets[text + 1] - first;
    Attending *a = &t->attending[thread];
    int64_t at = ((int64_t)(t->block - p->first_block) * s->kv_heads + kv) * p->tokens + first;
    float *keys = p->keys + at * size, *values = p->values + at * size;
    for (int i = 0; i < tokens; i++) {
        const float *row = t->packed + (int64_t)(first + i) * width;
        int64_t turn = (int64_t)(p->positions[text] + i) * half;
        rotate(row + (s->heads + kv) * size, t->cosines + turn, t->sines + turn, half,
               keys + (int64_t)i * size);
        memcpy(values + (int64_t)i * size, row + (s->heads + s->kv_heads + kv) * size,
               (size_t)size * sizeof(float));
    }
    const Front *front = &p->fronts[t->block - p->first_block];
    Seen seen = {NULL, NULL, keys, values, 0, tokens, size};
    if (front->keys) {
        int64_t row = (int64_t)kv * p->front_rows + p->front_first[text];
        seen.front = p->front_stop[text] - p->front_first[text];
        seen.front_keys = front->keys + row * size, seen.front_values = front->values + row * size;
    }
    int start = t->query_offsets[text], count = t->query_offsets[text + 1] - start;
    int all = t->queries == t->pass->tokens;
    float scale = 1.0f / sqrtf((float)size), turned[MOST_HEAD_DIM];
    for (int lanes = 0; lanes < count * shared; lanes += LANES) {
        float *to[LANES];
        int used = (int)smaller(LANES, (int64_t)count * shared - lanes);
        for (int lane = 0; lane < LANES; lane++) {
            int number = lanes + lane, query = start + number % count;
            to[lane] = NULL, a->positions[lane] = 0;
            if (lane >= used) {
                for (int i = 0; i < size; i++) a->queries[i * LANES + lane] = 0;
                continue;
            }
            int token = all ? query : p->wanted[query], head = kv * shared + number / count;
            int64_t turn = (int64_t)(p->positions[text] + token - first) * half;
            rotate(t->packed + (int64_t)token * width + head * size, t->cosines + turn,
                   t->sines + turn, half, turned);
            for (int i = 0; i < size; i++) a->queries[i * LANES + lane] = turned[i] * scale;
            a->positions[lane] = token - first;
            to[lane] = t->attended + ((int64_t)query * s->heads + head) * size;
        }
        attend_lanes(&seen, a, to);
    }
}

static void round_tile(Blocks *t, const float *x, int columns, int tile) {
    for (int row = tile * TILE; row < (int)smaller((tile + 1) * TILE, t->tokens); row++)
        round_into(x + (int64_t)row * columns, columns, &t->tiles, (size_t)row);
}

static void round_attended_stage(void *context, int chunk, int thread) {
    Blocks *t = context;
    (void)thread;
    round_tile(t, t->attended, t->shape.heads * t->shape.head_dim, chunk);
}

static void round_inner_stage(void *context, int chunk, int thread) {
    Blocks *t = context;
    (void)thread;
    round_tile(t, t->inner, t->shape.ffn, chunk);
}

static void normalised_tile(Blocks *t, const float *norm, const float *lora_a, int tile, int thread) {
    int hidden = t->shape.hidden, ranks = t->pass->ranks;
    float *x = t->floats[thread];
    for (int row = tile * TILE; row < (int)smaller((tile + 1) * TILE, t->tokens); row++) {
        normalise(t->stream + (int64_t)row * hidden, norm, hidden, t->shape.norm_epsilon, x);
        round_into(x, hidden, &t->tiles, (size_t)row);
        if (!lora_a) continue;
        float *reduced = t->reduced + (int64_t)row * ranks;
        memset(reduced, 0, (size_t)ranks * sizeof(float));
        for (int i = 0; i < hidden; i++)
            for (int r = 0; r < ranks; r++) reduced[r] += x[i] * lora_a[(int64_t)i * ranks + r];
    }
}

static void attention_norm_stage(void *context, int chunk, int thread) {
    Blocks *t = context;
    normalised_tile(t, t->weights[t->block].attention_norm,
                    t->pass->lora_a[t->block - t->pass->first_block], chunk, thread);
}

static void ffn_norm_stage(void *context, int chunk, int thread) {
    Blocks *t = context;
    normalised_tile(t, t->weights[t->block].ffn_norm, NULL, chunk, thread);
}

/* A group's rows for a tile, times the matrix's factor. */
static void group_of(const Blocks *t, const uint8_t *matrix, int columns, float factor,
                     const float *bias, int group, int tile, int n, __m512 *total) {
    sixteen_rows(t->shape.bits, matrix + (size_t)group * group_bytes(t->shape.bits, columns),
                 columns / COLUMNS, &t->tiles, (size_t)tile, n, total);
    __m512 times = _mm512_set1_ps(factor);
    __m512 plus = bias ? _mm512_loadu_ps(bias + ROWS * group) : _mm512_setzero_ps();
    for (int i = 0; i < n; i++) total[i] = _mm512_fmadd_ps(total[i], times, plus);
}

static void qkv_group(Blocks *t, int group) {
    const Block *w = &t->weights[t->block];
    const Pass *p = t->pass;
    int width = qkv_size(&t->shape);
    const float *b = p->lora_b[t->block - p->first_block];
    for (int tile = 0; tile * TILE < t->tokens; tile++) {
        __m512 total[TILE];
        int n = (int)smaller(TILE, t->tokens - tile * TILE);
        group_of(t, w->qkv, t->shape.hidden, w->qkv_factor, w->qkv_bias, group, tile, n, total);
        for (int i = 0; i < n; i++) {
            int64_t row = tile * TILE + i;
            for (int r = 0; b && r < p->ranks; r++)
                total[i] = _mm512_fmadd_ps(_mm512_set1_ps(t->reduced[row * p->ranks + r]),
                                           _mm512_loadu_ps(b + (int64_t)r * width + ROWS * group),
                                           total[i]);
            _mm512_storeu_ps(t->projected + row * width + ROWS * group, total[i]);
        }
    }
}

static void add_product(Blocks *t, const uint8_t *matrix, int columns, float factor, const float *bias,
                        int group) {
    for (int tile = 0; tile * TILE < t->tokens; tile++) {
        __m512 total[TILE];
        int n = (int)smaller(TILE, t->tokens - tile * TILE);
        group_of(t, matrix, columns, factor, bias, group, tile, n, total);
        for (int i = 0; i < n; i++) {
            float *to = t->stream + (int64_t)(tile * TILE + i) * t->shape.hidden + ROWS * group;
            _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), total[i]));
        }
    }
}

static void output_group(Blocks *t, int group) {
    const Block *w = &t->weights[t->block];
    add_product(t, w->output, t->shape.heads * t->shape.head_dim, w->output_factor, w->output_bias,
                group);
}

static void ffn_out_group(Blocks *t, int group) {
    const Block *w = &t->weights[t->block];
    add_product(t, w->ffn_out, t->shape.ffn, w->ffn_out_factor, w->ffn_out_bias, group);
}

static void ffn_in_group(Blocks *t, int group) {
    const Block *w = &t->weights[t->block];
    int hidden = t->shape.hidden, above = t->shape.ffn / ROWS;
    const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();
    for (int tile = 0; tile * TILE < t->tokens; tile++) {
        __m512 gate[TILE], up[TILE];
        int n = (int)smaller(TILE, t->tokens - tile * TILE);
        group_of(t, w->ffn_in, hidden, w->ffn_in_factor, w->ffn_in_bias, group, tile, n, gate);
        group_of(t, w->ffn_in, hidden, w->ffn_in_factor, w->ffn_in_bias, group + above, tile, n, up);
        for (int i = 0; i < n; i++) {
            __m512 below = _mm512_add_ps(one, exponential16(_mm512_sub_ps(zero, gate[i])));
            _mm512_storeu_ps(t->inner + (int64_t)(tile * TILE + i) * t->shape.ffn + ROWS * group,
                             _mm512_mul_ps(_mm512_div_ps(gate[i], below), up[i]));
        }
    }
}

/* Scores of some rows of the table for all states: each row is read once. */
static void logits_stage(void *context, int chunk, int thread) {
    Blocks *t = context;
    int columns = t->shape.hidden, blocks = columns / COLUMNS;
    int64_t stop = smaller((int64_t)(chunk + 1) * LOGIT_ROWS, t->vocabulary);
    (void)thread;
    for (int64_t row = (int64_t)chunk * LOGIT_ROWS; row < stop; row++) {
        const int8_t *codes = t->codes + row * columns;
        const float *scales = t->scales + row * blocks;
        for (int first = 0; first < t->states; first += 8) {
            __m512 totals[8];
            int n = (int)smaller(8, t->states - first);
            for (int i = 0; i < n; i++) totals[i] = _mm512_setzero_ps();
            for (int block = 0; block < blocks; block++) {
                expect(codes + block * COLUMNS);
                __m512i w = _mm512_cvtepi8_epi16(
                    _mm256_loadu_si256((const __m256i *)(codes + block * COLUMNS)));
                for (int i = 0; i < n; i++) {
                    const int16_t *x = t->tiles.whole + (int64_t)(first + i) * columns;
                    __m512i sum = _mm512_dpwssd_epi32(_mm512_setzero_si512(), w,
                                                      _mm512_loadu_si512(x + block * COLUMNS));
                    float scale = t->tiles.scale[(first + i) * blocks + block] * scales[block];
                    totals[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(scale),
                                                totals[i]);
                }
            }
            for (int i = 0; i < n; i++)
                t->logits[(int64_t)(first + i) * t->vocabulary + row] =
                    _mm512_reduce_add_ps(totals[i]);
        }
    }
}

static void group_stage(void *context, int chunk, int thread) {
    Blocks *t = context;
    (void)thread;
    t->group(t, chunk);
}

/* All groups of 16 rows of a matrix. */
static void run_groups(Blocks *t, Group group, int groups) {
    t->group = group;
    run_stage(&t->stages, group_stage, groups);
}

static void one_block(Blocks *t, int is_last) {
    Stages *stages = &t->stages;
    const Shape *s = &t->shape;
    const Pass *p = t->pass;
    /* Behind the attention of the last block only the wanted rows go on. */
    int only = is_last && p->finals < p->tokens;
    t->queries = only ? p->finals : p->tokens;
    t->query_offsets = only ? p->wanted_offsets : p->offsets;
    run_stage(stages, attend_stage, p->texts * s->kv_heads);
    t->tokens = t->queries;
    int tiles = (int)tiles_of((size_t)t->tokens);
    for (int i = 0; only && i < p->finals; i++)
        memmove(t->stream + (int64_t)i * s->hidden, t->stream + (int64_t)p->wanted[i] * s->hidden,
                (size_t)s->hidden * sizeof(float));
    run_stage(stages, round_attended_stage, tiles);
    run_groups(t, output_group, s->hidden / ROWS);
    run_stage(stages, ffn_norm_stage, tiles);
    run_groups(t, ffn_in_group, s->ffn / ROWS);
    run_stage(stages, round_inner_stage, tiles);
    run_groups(t, ffn_out_group, s->hidden / ROWS);
}

/* The projections of the block at hand. */
static void project(Blocks *t, float *to) {
    t->projected = to;
    run_stage(&t->stages, attention_norm_stage, (int)tiles_of((size_t)t->tokens));
    run_groups(t, qkv_group, qkv_size(&t->shape) / ROWS);
    t->packed = to;
}

static void all_blocks(Blocks *t) {
    const Pass *p = t->pass;
    const Shape *s = &t->shape;
    t->tokens = p->tokens, t->packed = p->qkv, t->stream = p->residual;
    for (t->block = p->first_block; t->block < p->stop_block; t->block++) {
        if (t->block > p->first_block || !p->qkv) project(t, t->qkv);
        one_block(t, t->block == s->blocks - 1);
    }
    if (p->next && p->stop_block < s->blocks) project(t, p->next);
    if (p->stop_block == s->blocks)
        for (int i = 0; i < p->finals; i++)
            normalise(t->stream + (int64_t)i * s->hidden, t->final_norm, s->hidden, s->norm_epsilon,
                      p->final + (int64_t)i * s->hidden);
}
#endif

#endif
