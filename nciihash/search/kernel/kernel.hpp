// What the bindings (bindings.cpp) and the search loops (kernel.cpp) share: plain data only, since
// kernel.cpp is compiled once for every instruction set and must bring no template of the standard
// library with it (the linker could keep the copy that needs the newer processor).
#pragma once

#include <cstddef>
#include <cstdint>

namespace nciihash {

// Hashes are looked at as chunks of 16 bits; 256 bits are 16 chunks.
constexpr int max_chunks = 16;
// Probes flip at most this many bits of a chunk: 2517 probes a table, more never pays.
constexpr int max_flips = 4;
// Where buckets are long, those of a table are sorted by the number of ones in the signature: what
// differs from the query's in few bits has about as many. An offset then has four words, the last
// three of which hold twelve bytes: byte j tells where signatures with window_first + j ones begin,
// in parts of 256 of the bucket, rounded down.
constexpr int window_bounds = 12, window_first = 3;
// Entries that may be read, never used, behind the last one of `sigs`: the rest of a cache line.
constexpr uint32_t sig_padding = 64;

// The values of 16 - n bits and less with few bits set, by number of bits set.
struct Flips {
    const uint16_t* masks;
    uint32_t ends[max_flips + 1];  // masks[0 .. ends[w]) flip at most w bits
};

// One immutable segment of a bank. Rows are scrambled (see bindings.cpp).
struct View {
    uint32_t count;
    const uint8_t* rows;     // count * chunks * 2 bytes
    const uint64_t* ids;     // what the user calls each row
    const uint8_t* dead;     // bitmap of removed rows, highest bit first, or null
    const uint64_t* planes;  // the first plane_rows rows bit-sliced, see `slice`, or null
    uint32_t plane_rows;
    // Tables, or null: table k holds every row under the first key_bits bits of chunk k * stride.
    const uint32_t* offsets;  // tables * (2^key_bits + 1) * words
    const uint32_t* refs;     // tables * count row numbers, by key
    const uint16_t* sigs;     // tables * count (+ sig_padding): the next chunk; 64-byte aligned
    int tables, stride, key_bits, words;
    Flips flips;
};

struct Hit {
    uint32_t query, distance;
    uint64_t id;
};

// A list that grows; freed with std::free.
struct Hits {
    Hit* data;
    size_t size, capacity;
};

enum class Status { ok, no_memory, corrupt };

// Which of the two ways to go; tests and benchmarks take one or the other.
enum class Way { best, index, scan };

// Scrambled queries, all answered against one segment.
struct Request {
    const uint8_t* queries;
    uint32_t count;
    uint32_t radius;
    Way way;
    Hits* hits;
};

// The loops for one instruction set.
struct Kernel {
    const char* name;
    uint32_t lanes;  // rows a bit-sliced block
    // Append every live row within the radius to the hits, each once.
    Status (*search)(int chunks, const View&, const Request&);
    // Bit-slice `lanes` rows: plane p holds bit p of each row; chunks * 16 * lanes / 64 words.
    void (*slice)(int chunks, const uint8_t* rows, uint64_t* planes);
    // Permute the bits of rows; `table` has four words for each value of each nibble of a row.
    void (*scramble)(int chunks, const uint64_t* table, const uint8_t* packed, uint8_t* out,
                     size_t rows);
};

// Null where this build has none.
const Kernel* kernel_portable();
const Kernel* kernel_neon();
const Kernel* kernel_avx2();
const Kernel* kernel_avx512();

}  // namespace nciihash
