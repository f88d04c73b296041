/* What all plans of a frame promise and which is the best: the loops of `plan_logits.py`,
 * `plan_choice.py` and `plan_steps.py`, which say what they are given. Operations and their order are those of numpy
 * there, and are compiled without contraction and reordering (see `native.EXACT`), so results are
 * the same bits. Inner loops run over states and have no branches.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#define restrict
#endif

/* States that are looked at together, so that what is known of them stays in the nearest cache. */
#define BLOCK 256

/* The plans of a space; `bare` is not a number where the plan without sensors is as the others. */
typedef struct {
    int64_t states, variants, topics, classes;
    const float *tangents, *worth, *least;
    const uint8_t *fits, *allowed;
    const int64_t *index;
    const double *costs;
    float bare;
    int32_t unused;
} PlanShares;

/* Bytes of a vector of the processor. */
#if defined(__AVX512F__)
#define WIDE 64
#elif defined(__AVX2__)
#define WIDE 32
#else
#define WIDE 16
#endif
#define LANES (WIDE / 4)

/* Numbers that lie side by side anywhere. */
typedef float Vector __attribute__((vector_size(WIDE), aligned(4), may_alias));
typedef int32_t Whole __attribute__((vector_size(WIDE), aligned(4), may_alias));

/* out[i] = (start[i] + alone) + factors[0] * row 0[i] + factors[1] * row 1[i] ..., in that order;
 * without `start` it begins with `alone`. Row k begins at `table + stride * k`. Sums stay in
 * registers until they are whole. */
static inline void add_rows(int64_t count, const float *start, float alone, int64_t number,
                            const float *factors, const float *table, int64_t stride,
                            float *out) {
    const Vector zero = {0};
    int64_t i = 0, k;
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        Vector sums[4] = {zero + alone, zero + alone, zero + alone, zero + alone};
        int part;
        if (start)
            for (part = 0; part < 4; part++) sums[part] += *(const Vector *)(start + i + LANES * part);
        for (k = 0; k < number; k++) {
            const float *row = table + stride * k + i;
            for (part = 0; part < 4; part++)
                sums[part] += factors[k] * *(const Vector *)(row + LANES * part);
        }
        for (part = 0; part < 4; part++) *(Vector *)(out + i + LANES * part) = sums[part];
    }
    for (; i + LANES <= count; i += LANES) {
        Vector sum = zero + alone;
        if (start) sum += *(const Vector *)(start + i);
        for (k = 0; k < number; k++)
            sum += factors[k] * *(const Vector *)(table + stride * k + i);
        *(Vector *)(out + i) = sum;
    }
    for (; i < count; i++) {
        float sum = start ? start[i] + alone : alone;
        for (k = 0; k < number; k++) sum += factors[k] * table[stride * k + i];
        out[i] = sum;
    }
}

/* ---- plan_logits.py ---- */

/* Coverage of one modality in all states of some sensors, the last of which changes fastest. */
static int64_t seen_of(int64_t group, const int32_t *groups, const float *cover, const float *fresh,
                       int64_t first, int64_t last, float *restrict seen) {
    int64_t count = 1, sensor, i;
    seen[0] = 0.0f;
    for (sensor = last - 1; sensor >= first; sensor--) {
        int mine = groups[sensor] == group;
        float held = mine ? cover[sensor] * fresh[2 * sensor] : 0.0f;
        float made = mine ? cover[sensor] * fresh[2 * sensor + 1] : 0.0f;
        for (i = 0; i < count; i++) {
            seen[count + i] = seen[i] + held;
            seen[2 * count + i] = seen[i] + made;
        }
        count *= 3;
    }
    return count;
}

/* The polynomial of coverages, added to what is in `out`; `inner` has room for as many. */
static void add_polynomial(int64_t groups, int64_t count, const float *linear, const float *square,
                           const float *seen, float *restrict inner, float *restrict out) {
    int64_t one, other, i;
    for (one = 0; one < groups; one++) {
        for (i = 0; i < count; i++) inner[i] = linear[one];
        for (other = one; other < groups; other++) {
            float factor = square[one * groups + other];
            const float *its = seen + other * count;
            if (factor == 0.0f) continue;
            for (i = 0; i < count; i++) inner[i] += factor * its[i];
        }
        for (i = 0; i < count; i++) out[i] += inner[i] * seen[one * count + i];
    }
}

/* `scratch` has room for `2 + groups` numbers per state of the first and of the last sensors, and
 * for one more per group. */
void plan_logits(int64_t sensors, int64_t split, int64_t topics, int64_t groups,
                      const int32_t *group_of, const float *cover, const float *fresh,
                      const float *base, const float *linear, const float *square, float *scratch,
                      float *out) {
    int64_t topic, group, other, i, j, many = 1, few = 1;
    float *left, *right, *first, *last, *inner, *across;
    for (i = 0; i < split; i++) few *= 3;
    for (i = split; i < sensors; i++) many *= 3;
    first = scratch;           /* [few], what the first sensors add alone */
    last = first + few;        /* [many], what the last ones add alone, with the base */
    left = last + many;        /* [groups, few] */
    right = left + groups * few; /* [groups, many] */
    inner = right + groups * many; /* [the larger of few and many] */
    across = inner + few + many;   /* [groups] */
    for (topic = 0; topic < topics; topic++) {
        for (group = 0; group < groups; group++) {
            seen_of(group, group_of, cover, fresh, 0, split, left + group * few);
            seen_of(group, group_of, cover, fresh, split, sensors, right + group * many);
        }
        for (i = 0; i < few; i++) first[i] = 0.0f;
        for (i = 0; i < many; i++) last[i] = base[topic];
        add_polynomial(groups, few, linear, square, left, inner, first);
        add_polynomial(groups, many, linear, square, right, inner, last);
        for (j = 0; j < few; j++) {
            for (group = 0; group < groups; group++) {
                across[group] = 0.0f;
                for (other = 0; other < groups; other++) {
                    float factor = other < group ? square[other * groups + group]
                                                 : square[group * groups + other];
                    if (other == group) factor += factor;
                    across[group] += factor * left[other * few + j];
                }
            }
            add_rows(many, last, first[j], groups, across, right, many, out);
            out += many;
        }
        cover += sensors;
        linear += groups;
        square += groups * groups;
    }
}

/* ---- plan_choice.py ---- */

/* Shares of a variant in `count` states from `first` on. */
static void shares_of(const PlanShares *p, int64_t variant, int64_t first, int64_t count,
                      float *out) {
    add_rows(count, NULL, p->least[variant], p->topics, p->worth + variant * p->topics,
             p->tangents + first, p->states, out);
    if (first == 0 && count && p->bare == p->bare) out[0] = p->bare;
}

/* A bit per variant, of what keeps the budget: by class, and from that by state. */
static void possible_bits(const PlanShares *p, uint32_t *restrict by_class,
                          uint32_t *restrict by_state) {
    int64_t variant, i;
    memset(by_class, 0, (size_t)p->classes * sizeof(uint32_t));
    for (variant = 0; variant < p->variants; variant++) {
        const uint8_t *fits = p->fits + variant * p->classes;
        for (i = 0; i < p->classes; i++) by_class[i] |= (uint32_t)fits[i] << variant;
    }
    for (i = 0; i < p->states; i++) by_state[i] = by_class[p->index[i]] & (0u - p->allowed[i]);
}

/* In each place that of `yes` where `mask` has all bits, that of `no` where it has none. */
static inline Vector chosen(Whole mask, Vector yes, Vector no) {
    return (Vector)((mask & (Whole)yes) | (~mask & (Whole)no));
}

/* The larger one in each place, without numbers that are none. */
static inline Vector larger(Vector one, Vector other) { return chosen(one > other, one, other); }

/* The largest number of four vectors. */
static inline float largest(const Vector *of) {
    union {
        Vector vector;
        float numbers[LANES];
    } all;
    int width, i;
    all.vector = larger(larger(of[0], of[1]), larger(of[2], of[3]));
    for (width = LANES / 2; width; width /= 2)
        for (i = 0; i < width; i++)
            if (all.numbers[i + width] > all.numbers[i]) all.numbers[i] = all.numbers[i + width];
    return all.numbers[0];
}

/* Number of the best plan, or -1 where none is possible; `found` gets its share and the largest
 * share of all plans, possible or not. `bits` has room for a number per class and per state,
 * `tops` for one per variant and block. */
int64_t plan_best(const PlanShares *p, double tie, uint32_t *bits, float *tops, float *found) {
    uint32_t *by_state = bits + p->classes;
    int64_t blocks = (p->states + BLOCK - 1) / BLOCK, best = -1, variant, block, i;
    const Vector zero = {0}, nothing = zero - INFINITY;
    Vector most[4] = {nothing, nothing, nothing, nothing};
    float shares[BLOCK], top = -INFINITY, least;
    const double beside[2] = {INFINITY, 0.0};
    double cheapest = INFINITY;
    possible_bits(p, bits, by_state);
    for (block = 0; block < blocks; block++) {
        int64_t first = block * BLOCK;
        int64_t count = p->states - first < BLOCK ? p->states - first : BLOCK;
        uint32_t mine[BLOCK];
        for (i = count; i < BLOCK; i++) {
            shares[i] = -INFINITY;
            mine[i] = 0;
        }
        memcpy(mine, by_state + first, (size_t)count * sizeof(uint32_t));
        for (variant = 0; variant < p->variants; variant++) {
            const Whole none = {0}, bit = none + (int32_t)(1u << variant);
            Vector highest[4] = {nothing, nothing, nothing, nothing};
            float one;
            int part;
            shares_of(p, variant, first, count, shares);
            for (i = 0; i < BLOCK; i += 4 * LANES)
                for (part = 0; part < 4; part++) {
                    int64_t at = i + LANES * part;
                    Vector share = *(const Vector *)(shares + at), kept;
                    kept = chosen((*(const Whole *)(mine + at) & bit) != 0, share, nothing);
                    most[part] = larger(share, most[part]);
                    highest[part] = larger(kept, highest[part]);
                }
            one = tops[variant * blocks + block] = largest(highest);
            top = one > top ? one : top;
        }
    }
    least = (float)((double)top - tie);
    for (variant = 0; variant < p->variants; variant++)
        for (block = 0; block < blocks; block++) {
            int64_t first = block * BLOCK;
            int64_t count = p->states - first < BLOCK ? p->states - first : BLOCK;
            const double *costs = p->costs + variant * p->classes;
            if (!(tops[variant * blocks + block] >= least) || top == -INFINITY) continue;
            shares_of(p, variant, first, count, shares);
            for (i = 0; i < count; i++) {
                int64_t state = first + i;
                int equal = (by_state[state] >> variant & 1) & (shares[i] >= least);
                /* Not a branch, which might go either way again and again. */
                double cost = costs[p->index[state]] + beside[equal];
                if (cost < cheapest) {
                    cheapest = cost;
                    best = variant * p->states + state;
                    found[0] = shares[i];
                }
            }
        }
    found[1] = largest(most);
    return best;
}

/* Shares of all plans. */
void plan_shares(const PlanShares *p, float *out) {
    int64_t variant;
    for (variant = 0; variant < p->variants; variant++)
        shares_of(p, variant, 0, p->states, out + variant * p->states);
}

/* ---- plan_steps.py ---- */

static float share_of(const PlanShares *p, int64_t variant, int64_t state) {
    float share;
    shares_of(p, variant, state, 1, &share);
    return share;
}

/* What a step to this plan gains for each unit that it adds to the cost; 0 if it is not taken. */
static double rate_of(const PlanShares *p, int64_t variant, int64_t state, float share,
                      double spent, float tie, double little) {
    int64_t at = variant * p->classes + p->index[state];
    float gain;
    double added;
    if (!p->fits[at] || !p->allowed[state]) return 0.0;
    gain = share_of(p, variant, state) - share;
    added = p->costs[at] - spent;
    return gain > tie ? (double)gain / (added > little ? added : little) : 0.0;
}

/* Number of the plan from which no step is worth it; `found` gets its share. */
int64_t plan_steps(const PlanShares *p, int64_t sensors, int64_t plan, double tie, double little,
                   float *found) {
    for (;;) {
        int64_t variant = plan / p->states, state = plan % p->states, best = -1, stride = 1;
        int64_t sensor, other;
        float share = share_of(p, variant, state);
        double spent = p->costs[variant * p->classes + p->index[state]], highest = 0.0;
        for (sensor = 1; sensor < sensors; sensor++) stride *= 3;
        for (sensor = 0; sensor < sensors; sensor++, stride /= 3)
            for (other = 0; other < 3; other++) {
                int64_t to = state + (other - state / stride % 3) * stride;
                double rate = rate_of(p, variant, to, share, spent, (float)tie, little);
                if (rate <= highest) continue;
                highest = rate;
                best = variant * p->states + to;
            }
        for (other = 0; other < p->variants; other++) {
            double rate = rate_of(p, other, state, share, spent, (float)tie, little);
            if (rate <= highest) continue;
            highest = rate;
            best = other * p->states + state;
        }
        if (best < 0) {
            *found = share;
            return plan;
        }
        plan = best;
    }
}

#ifdef __cplusplus
}
#endif
