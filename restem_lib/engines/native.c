/* What torch does in many passes over memory, in one: float32 on CPU. native.py compiles and calls it; llama.py and
   cohorts.py say the same in torch, for all other devices and types. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TILE 16

/* e^x for x <= 0 to about 3 units in the last place, without a branch, so that loops over it become vector code. NaN stays. */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float whole = rintf(x * 1.44269504f);
    float rest = x - whole * 0.693145752f - whole * 1.42860677e-6f;
    float series = 1.0f + rest * (1.0f + rest * (0.5f + rest * (0.166666657f + rest * (0.0416664799f
                 + rest * (0.00833345205f + rest * 0.00139335904f)))));
    union { int32_t bits; float value; } power = {((int32_t)whole + 127) << 23};
    return series * power.value;
}

/* Eight numbers, wherever they lie in memory. */
typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));

static inline eight at(const float *numbers) { return *(const eight *)numbers; }

static inline float total(eight x) {
    return ((x[0] + x[4]) + (x[1] + x[5])) + ((x[2] + x[6]) + (x[3] + x[7]));
}

/* Scores of a prompt's keys, [size][stride] with a stride of whole TILEs, from `first` (a whole TILE) to `last`. */
static inline __attribute__((always_inline)) void compare_tiles(
    const float *query, const float *keys, int64_t first, int64_t last, int64_t stride, int64_t size, float *scores
) {
    for (int64_t key = first; key < last; key += TILE) {
        /* Four sums that do not wait for each other. */
        eight a = {0}, b = {0}, c = {0}, d = {0};
        for (int64_t i = 0; i < size; i += 2) {
            const float *one = keys + i * stride + key, *two = one + stride;
            a += query[i] * at(one);
            b += query[i] * at(one + 8);
            c += query[i + 1] * at(two);
            d += query[i + 1] * at(two + 8);
        }
        *(eight *)(scores + key) = a + c;
        *(eight *)(scores + key + 8) = b + d;
    }
}

/* Scores of keys [count][size]; size is a multiple of 8. Four at a time, for they do not wait for each other. */
static inline __attribute__((always_inline)) void compare(
    const float *query, const float *keys, int64_t count, int64_t size, float *scores
) {
    int64_t key = 0;
    for (; key + 4 <= count; key += 4, keys += 4 * size) {
        eight a = {0}, b = {0}, c = {0}, d = {0};
        for (int64_t i = 0; i < size; i += 8) {
            eight q = at(query + i);
            a += q * at(keys + i);
            b += q * at(keys + size + i);
            c += q * at(keys + 2 * size + i);
            d += q * at(keys + 3 * size + i);
        }
        scores[key] = total(a), scores[key + 1] = total(b);
        scores[key + 2] = total(c), scores[key + 3] = total(d);
    }
    for (; key < count; key++, keys += size) {
        eight a = {0};
        for (int64_t i = 0; i < size; i += 8) a += at(query + i) * at(keys + i);
        scores[key] = total(a);
    }
}

/* Adds up values [count][size] by their weights, 32 columns at a time, which stay in registers. */
static inline __attribute__((always_inline)) void gather(
    const float *weights, const float *values, int64_t count, int64_t size, float *out
) {
    int64_t column = 0;
    for (; column + 32 <= size; column += 32) {
        eight a = at(out + column), b = at(out + column + 8), e = {0}, f = {0};
        eight c = at(out + column + 16), d = at(out + column + 24), g = {0}, h = {0};
        const float *value = values + column;
        int64_t key = 0;
        for (; key + 2 <= count; key += 2, value += 2 * size) {
            float one = weights[key], two = weights[key + 1];
            a += one * at(value), b += one * at(value + 8);
            c += one * at(value + 16), d += one * at(value + 24);
            e += two * at(value + size), f += two * at(value + size + 8);
            g += two * at(value + size + 16), h += two * at(value + size + 24);
        }
        if (key < count) {
            a += weights[key] * at(value), b += weights[key] * at(value + 8);
            c += weights[key] * at(value + 16), d += weights[key] * at(value + 24);
        }
        a += e, b += f, c += g, d += h;
        *(eight *)(out + column) = a, *(eight *)(out + column + 8) = b;
        *(eight *)(out + column + 16) = c, *(eight *)(out + column + 24) = d;
    }
    for (; column < size; column += 8) {
        eight a = at(out + column);
        for (int64_t key = 0; key < count; key++) a += weights[key] * at(values + key * size + column);
        *(eight *)(out + column) = a;
    }
}

struct job {
    int64_t rows, heads, group, size, threads;
    /* Queries [rows][heads][group][size] and the new keys and values [rows][heads][size], their rows `stride` apart. */
    const float *queries, *new_keys, *new_values;
    int64_t stride;
    float scale;
    /* Of the prompts: keys [prompts][heads][size][prompt_room], values [prompts][heads][.][size]. A row sees those from
       first to last of its prompt. */
    const float *prompt_keys, *prompt_values;
    int64_t prompt_room, value_stride, value_head_stride;
    const int64_t *prompt, *first, *last;
    /* Of the rows: [.][heads][room][size]. Each sees begin to end; the new ones go to place end - 1. */
    float *own_keys, *own_values;
    int64_t room, begin, end;
    /* Result [rows][heads][group][size], and the log of the sum of the exponentials [rows][heads][group]. */
    float *out, *mass;
};

static inline __attribute__((always_inline)) void row_and_head(
    const struct job *j, int64_t row, int64_t head, int64_t size, float *scores
) {
    int64_t own = (row * j->heads + head) * j->room * size;
    int64_t fresh = row * j->stride + head * size;
    memcpy(j->own_keys + own + (j->end - 1) * size, j->new_keys + fresh, size * sizeof(float));
    memcpy(j->own_values + own + (j->end - 1) * size, j->new_values + fresh, size * sizeof(float));
    const float *keys = j->prompt_keys + (j->prompt[row] * j->heads + head) * size * j->prompt_room;
    const float *values = j->prompt_values + j->prompt[row] * j->value_stride + head * j->value_head_stride;
    int64_t first = j->first[row], last = j->last[row], mine = j->end - j->begin;
    if (first > last) first = last;
    own += j->begin * size;
    for (int64_t member = 0; member < j->group; member++) {
        int64_t here = (row * j->heads + head) * j->group + member;
        const float *given = j->queries + row * j->stride + (head * j->group + member) * size;
        float query[size];
        for (int64_t i = 0; i < size; i++) query[i] = given[i] * j->scale;
        compare_tiles(query, keys, first / TILE * TILE, last, j->prompt_room, size, scores);
        /* After the prompt's last score; what its last tile had there is of no prompt. */
        compare(query, j->own_keys + own, mine, size, scores + last);
        float most = scores[first], sum = 0.0f;
        #pragma omp simd reduction(max:most)
        for (int64_t key = first; key < last + mine; key++) most = most < scores[key] ? scores[key] : most;
        #pragma omp simd reduction(+:sum)
        for (int64_t key = first; key < last + mine; key++) {
            scores[key] = exponential(scores[key] - most);
            sum += scores[key];
        }
        float *out = j->out + here * size, scale = 1.0f / sum;
        memset(out, 0, size * sizeof(float));
        gather(scores + first, values + first * size, last - first, size, out);
        gather(scores + last, j->own_values + own, mine, size, out);
        for (int64_t i = 0; i < size; i++) out[i] *= scale;
        j->mass[here] = most + logf(sum);
    }
}

/* Attention of one new token a row: on its prompt's keys, which other rows share, and on the row's own. */
void attend(const struct job *j) {
    #pragma omp parallel num_threads(j->threads)
    {
        float *scores = malloc((j->prompt_room + TILE + j->end) * sizeof(float));
        if (!scores) abort();
        #pragma omp for collapse(2) schedule(static)
        for (int64_t row = 0; row < j->rows; row++)
            for (int64_t head = 0; head < j->heads; head++)
                /* The usual sizes as constants, for loops without remainders. */
                switch (j->size) {
                    case 32: row_and_head(j, row, head, 32, scores); break;
                    case 64: row_and_head(j, row, head, 64, scores); break;
                    case 128: row_and_head(j, row, head, 128, scores); break;
                    default: row_and_head(j, row, head, j->size, scores);
                }
        free(scores);
    }
}

/* Root mean square norm of x [rows][width]. */
void norm(int64_t threads, int64_t rows, int64_t width, float epsilon, const float *weight, const float *x, float *out) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * width;
        float *to = out + row * width, sum = 0.0f;
        #pragma omp simd reduction(+:sum)
        for (int64_t i = 0; i < width; i++) sum += from[i] * from[i];
        float scale = 1.0f / sqrtf(sum / width + epsilon);
        #pragma omp simd
        for (int64_t i = 0; i < width; i++) to[i] = from[i] * scale * weight[i];
    }
}

/* Rotary embedding, in place, of the first `heads` heads of x [rows][stride]; cosines and sines [rows][size / 2]. */
void turn(int64_t threads, int64_t rows, int64_t heads, int64_t size, int64_t stride,
          const float *cosines, const float *sines, float *x) {
    int64_t half = size / 2;
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *c = cosines + row * half, *s = sines + row * half;
        for (int64_t head = 0; head < heads; head++) {
            float *first = x + row * stride + head * size, *second = first + half;
            #pragma omp simd
            for (int64_t i = 0; i < half; i++) {
                float a = first[i], b = second[i];
                first[i] = a * c[i] - b * s[i];
                second[i] = b * c[i] + a * s[i];
            }
        }
    }
}

/* silu(gate) * up of x [rows][2 * width], gate first. */
void gate(int64_t threads, int64_t rows, int64_t width, const float *x, float *out) {
    #pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *g = x + row * 2 * width, *up = g + width;
        float *to = out + row * width;
        #pragma omp simd
        for (int64_t i = 0; i < width; i++) {
            float e = exponential(-fabsf(g[i]));
            e = g[i] < -87.0f ? 0.0f : e; /* where it no longer falls */
            to[i] = g[i] * (g[i] < 0.0f ? e : 1.0f) / (1.0f + e) * up[i];
        }
    }
}
