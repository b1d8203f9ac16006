/* A port in C99, with no library but its own, for a little-endian machine, judged by its answers in files:
 *   cc -std=c99 -O2 -o port docs/port.c -lm
 *   echo '{"dtypes": ["float64"]}' > claims.json && trihead cases DIR --claims claims.json
 *   find DIR/questions -type f -exec ./port {} + && trihead verify --answers DIR */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { long shape[4]; int rank; double *data; } Array; /* data is NULL if there is no such array */
typedef struct { char *header, *data; } File;

static void *must(void *made, const char *what) { /* `made`, unless it is NULL */
    if (!made) fprintf(stderr, "port: cannot read or write %s\n", what), exit(1);
    return made;
}

static void *zeros(size_t count, size_t size) { return must(calloc(count + 1, size), "memory"); }

static File read_file(const char *path) {
    FILE *from = must(fopen(path, "rb"), path);
    uint64_t size;
    if (fread(&size, 8, 1, from) != 1 || fseek(from, 0, SEEK_END)) must(NULL, path);
    size_t rest = (size_t)ftell(from) - 8;
    char *header = zeros(rest, 1);
    if (fseek(from, 8, SEEK_SET) || fread(header, 1, rest, from) != rest || fclose(from)) must(NULL, path);
    header[size - 1] = 0; /* in place of the last brace, or of a space after it */
    return (File){ header, header + size };
}

/* Reads an array of F64 or I64 as double: {"name":{"dtype":"F64","shape":[2,4],"data_offsets":[0,64]}, ...} */
static Array array(File file, const char *name, const char *part) {
    char key[64];
    snprintf(key, sizeof key, "\"%s%s\":{", name, part);
    Array a = { { 0 }, 0, NULL };
    char *at = strstr(file.header, key);
    if (!at) return a;
    char kind = strstr(at, "\"dtype\":\"")[9], *s = strstr(at, "\"shape\":[") + 9;
    size_t count = 1;
    for (; *s != ']'; s += *s == ',') count *= a.shape[a.rank++] = strtol(s, &s, 10);
    char *from = file.data + strtol(strstr(at, "\"data_offsets\":[") + 16, NULL, 10);
    a.data = memcpy(zeros(count, 8), from, 8 * count);
    for (size_t i = 0; kind == 'I' && i < count; i++) {
        int64_t whole;
        memcpy(&whole, from + 8 * i, 8), a.data[i] = (double)whole;
    }
    return a;
}

/* x (batch, length, size) by a weight (out, size), plus its bias: (batch, length, out) */
static Array project(Array x, File file, const char *name) {
    Array weight = array(file, name, ".weight"), bias = array(file, name, ".bias");
    long rows = x.shape[0] * x.shape[1], out = weight.shape[0], size = weight.shape[1];
    Array y = { { x.shape[0], x.shape[1], out }, 3, zeros(rows * out, sizeof(double)) };
    for (long row = 0; row < rows; row++)
        for (long o = 0; o < out; o++) {
            for (long i = 0; i < size; i++) y.data[row * out + o] += x.data[row * size + i] * weight.data[o * size + i];
            if (bias.data) y.data[row * out + o] += bias.data[o];
        }
    return y;
}

/* Scores of one query become its attention weights: uniform where no key is valid. */
static void softmax(double *scores, long keys, double length) {
    double greatest = -INFINITY, sum = 0;
    for (long k = 0; k < keys; k++) scores[k] = length <= 0 ? 0 : k < length ? scores[k] : -INFINITY;
    for (long k = 0; k < keys; k++) greatest = fmax(greatest, scores[k]);
    for (long k = 0; k < keys; k++) sum += scores[k] = exp(scores[k] - greatest);
    for (long k = 0; k < keys; k++) scores[k] /= sum;
}

/* Fills in weights (batch, heads, queries, keys), and returns the heads' contexts side by side, as q is. */
static Array attend(Array q, Array k, Array v, Array lengths, Array weights) {
    long heads = weights.shape[1], queries = weights.shape[2], keys = weights.shape[3];
    long width = q.shape[2], depth = width / heads;
    Array joined = { { q.shape[0], queries, width }, 3, zeros(q.shape[0] * queries * width, sizeof(double)) };
    for (long row = 0; row < q.shape[0] * heads * queries; row++) {
        long b = row / (heads * queries), h = row / queries % heads, i = row % queries;
        double *scores = weights.data + row * keys, *out = joined.data + (b * queries + i) * width + h * depth;
        double *query = q.data + (b * queries + i) * width + h * depth;
        for (long j = 0; j < keys; j++)
            for (long d = 0; d < depth; d++)
                scores[j] += query[d] * k.data[(b * keys + j) * width + h * depth + d] / sqrt(depth);
        softmax(scores, keys, lengths.data ? lengths.data[lengths.rank == 1 ? b : b * queries + i] : keys);
        for (long j = 0; j < keys; j++)
            for (long d = 0; d < depth; d++) out[d] += scores[j] * v.data[(b * keys + j) * width + h * depth + d];
    }
    return joined;
}

/* Writes to a temporary name that then becomes the path of the answer: whole or not at all. */
static void answer(const char *question, Array output, Array weights) {
    char path[4096], part[4100], header[512];
    const char *file = must(strlen(question) < 4000 ? strrchr(question, '/') : NULL, question);
    snprintf(path, sizeof path, "%.*s/../answers%s", (int)(file - question), question, file);
    snprintf(part, sizeof part, "%s.tmp", path);
    long *o = output.shape, *w = weights.shape, outputs = o[0] * o[1] * o[2], all = w[0] * w[1] * w[2] * w[3];
    uint64_t size = (uint64_t)snprintf(header, sizeof header,
        "{\"output\":{\"dtype\":\"F64\",\"shape\":[%ld,%ld,%ld],\"data_offsets\":[0,%ld]},"
        "\"attention_weights\":{\"dtype\":\"F64\",\"shape\":[%ld,%ld,%ld,%ld],\"data_offsets\":[%ld,%ld]}}",
        o[0], o[1], o[2], 8 * outputs, w[0], w[1], w[2], w[3], 8 * outputs, 8 * (outputs + all));
    FILE *to = must(fopen(part, "wb"), part);
    fwrite(&size, 8, 1, to), fwrite(header, 1, size, to);
    fwrite(output.data, 8, outputs, to), fwrite(weights.data, 8, all, to);
    if (ferror(to) | fclose(to) || rename(part, path)) must(NULL, path);
}

int main(int count, char **paths) {
    for (int i = 1; i < count; i++) {
        File file = read_file(paths[i]);
        Array queries = array(file, "queries", ""), keys = array(file, "keys", ""), values = array(file, "values", "");
        Array q = project(queries, file, "W_q"), k = project(keys, file, "W_k"), v = project(values, file, "W_v");
        long heads = (long)array(file, "num_heads", "").data[0], all = q.shape[0] * heads * q.shape[1] * k.shape[1];
        Array weights = { { q.shape[0], heads, q.shape[1], k.shape[1] }, 4, zeros(all, sizeof(double)) };
        Array joined = attend(q, k, v, array(file, "valid_lens", ""), weights);
        answer(paths[i], project(joined, file, "W_o"), weights);
    }
}
