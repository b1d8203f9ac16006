// A port in plain JavaScript, judged by its answers in files:
//   trihead cases DIR && node docs/port.mjs DIR && trihead verify --answers DIR

import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const KINDS = { F64: Float64Array, F32: Float32Array, I64: BigInt64Array };

/** The arrays of a safetensors file: name -> { kind, shape, data }. */
function read(path) {
  const bytes = new Uint8Array(readFileSync(path)).buffer; // a copy, at offset 0 of a buffer of its own
  const size = Number(new DataView(bytes).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 8, size)));
  delete header.__metadata__;
  const arrays = {};
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
    arrays[name] = { kind: dtype, shape, data: new KINDS[dtype](bytes.slice(8 + size + from, 8 + size + to)) };
  }
  return arrays;
}

/** Writes arrays to a temporary name that then becomes `path`: whole or not at all. */
function write(path, arrays) {
  const header = {};
  const parts = [];
  let end = 0;
  for (const [name, { kind, shape, data }] of Object.entries(arrays)) {
    header[name] = { dtype: kind, shape, data_offsets: [end, (end += data.byteLength)] };
    parts.push(new Uint8Array(data.buffer));
  }
  const unpadded = JSON.stringify(header);
  const text = unpadded.padEnd(Math.ceil(unpadded.length / 8) * 8); // so that the arrays begin at a multiple of 8
  const size = new Uint8Array(new BigUint64Array([BigInt(text.length)]).buffer);
  writeFileSync(`${path}.part`, Buffer.concat([size, Buffer.from(text), ...parts]));
  renameSync(`${path}.part`, path);
}

/** x (batch, length, size) by a weight (out, size), plus its bias: in double precision, (batch, length, out). */
function project(x, weight, bias) {
  const [out, size] = weight.shape;
  const rows = x.shape[0] * x.shape[1];
  const data = new Float64Array(rows * out);
  for (let row = 0; row < rows; row++) {
    for (let o = 0; o < out; o++) {
      let sum = 0;
      for (let i = 0; i < size; i++) sum += x.data[row * size + i] * weight.data[o * size + i];
      data[row * out + o] = sum + (bias ? bias.data[o] : 0);
    }
  }
  return { shape: [x.shape[0], x.shape[1], out], data };
}

/** How many keys a query attends to; 0 or less: none is valid. */
function validLength(lengths, entry, query, keys) {
  if (!lengths) return keys;
  const at = lengths.shape.length === 1 ? entry : entry * lengths.shape[1] + query;
  return Math.min(Number(lengths.data[at]), keys);
}

/** The attention weights of one query: uniform where no key is valid. */
function softmax(scores, length) {
  if (length <= 0) return scores.fill(1 / scores.length);
  const greatest = Math.max(...scores.subarray(0, length));
  const powers = scores.map((score, key) => (key < length ? Math.exp(score - greatest) : 0));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** The layer: { output (batch, queries, hidden), attention_weights (batch, heads, queries, keys) }. */
function attend(given) {
  const projected = (x, name) => project(given[x], given[`${name}.weight`], given[`${name}.bias`]);
  const [q, k, v] = [projected("queries", "W_q"), projected("keys", "W_k"), projected("values", "W_v")];
  const heads = Number(given.num_heads.data[0]);
  const [batch, queries, width] = q.shape;
  const keys = k.shape[1];
  const depth = width / heads;
  const weights = { shape: [batch, heads, queries, keys], data: new Float64Array(batch * heads * queries * keys) };
  const joined = { shape: q.shape, data: new Float64Array(q.data.length) };
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < queries; i++) {
        const start = ((b * heads + h) * queries + i) * keys;
        const scores = weights.data.subarray(start, start + keys);
        const query = (b * queries + i) * width + h * depth; // where this head's part of the query begins
        const part = (key) => (b * keys + key) * width + h * depth; // and of a key, and of its value
        for (let key = 0; key < keys; key++) {
          for (let d = 0; d < depth; d++) scores[key] += q.data[query + d] * k.data[part(key) + d];
          scores[key] /= Math.sqrt(depth);
        }
        scores.set(softmax(scores, validLength(given.valid_lens, b, i, keys)));
        for (let key = 0; key < keys; key++) {
          for (let d = 0; d < depth; d++) joined.data[query + d] += scores[key] * v.data[part(key) + d];
        }
      }
    }
  }
  return { output: project(joined, given["W_o.weight"], given["W_o.bias"]), attention_weights: weights };
}

const folder = process.argv[2];
for (const file of readdirSync(join(folder, "questions"))) {
  const given = read(join(folder, "questions", file));
  const kind = given.queries.kind; // answers are of the dtype of the question
  const answers = attend(given);
  for (const answer of Object.values(answers)) Object.assign(answer, { kind, data: new KINDS[kind](answer.data) });
  write(join(folder, "answers", file), answers);
}
