// The interface between the bindings (bindings.cpp) and the search loops (kernel.cpp). Plain data
// only: kernel.cpp is compiled once for each instruction set, and the linker could keep a standard
// library template's instance that needs a newer processor.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nciihash {

// Hashes are divided into chunks of 16 bits; 256 bits are 16 chunks.
constexpr int max_chunks = 16;
// Probes flip at most this many bits of a chunk: 2517 probes per table; more are never worthwhile.
constexpr int max_flips = 4;
// Long buckets are sorted by the number of ones in the signature: signatures that differ from the
// query's in few bits have about as many ones. An offset then has four words. The last three
// contain twelve bytes: byte j is where the signatures with window_first + j ones begin, in 256ths
// of the bucket, rounded down.
constexpr int window_bounds = 12, window_first = 3;
// Entries after the last one of `sigs` that may be read but are never used: the rest of a cache
// line.
constexpr uint32_t sig_padding = 64;

// Masks with few bits set, sorted by the number of bits set.
struct Flips {
    const uint16_t* masks;
    uint32_t ends[max_flips + 1];  // masks[0 .. ends[w]) flip at most w bits
};

// One immutable segment of a bank. Rows are scrambled (see bindings.cpp).
struct View {
    uint32_t count;
    const uint8_t* rows;     // count * chunks * 2 bytes
    const uint64_t* ids;     // the caller's id of each row
    const uint8_t* removed;  // bitmap of removed rows, highest bit first, or null
    const uint64_t* planes;  // the first plane_rows rows, bit-sliced (see `slice`), or null
    uint32_t plane_rows;
    // Tables, or null. The key of a row in table k is the first key_bits bits of chunk k * stride.
    const uint32_t* offsets;  // tables * (2^key_bits + 1) * words
    const uint32_t* refs;     // tables * count row numbers, sorted by key
    const uint16_t* sigs;     // tables * count (+ sig_padding): the next chunk; 64-byte aligned
    int tables, stride, key_bits, words;
    Flips flips;
};

struct Hit {
    uint32_t query, distance;
    uint64_t id;
};

// A growing list, freed with std::free.
struct Hits {
    Hit* data;
    size_t size, capacity;
};

enum class Status { ok, no_memory, corrupt };

// How to search: multi-index, flat scan, or the cheaper one for each query. Tests and benchmarks
// choose.
enum class Strategy { best, index, scan };

// Scrambled queries for one segment.
struct Request {
    const uint8_t* queries;
    uint32_t count;
    uint32_t radius;
    // Rows within `reach` (at least the radius) that the search meets are also reported. `slack` is
    // how many more bits of a signature may differ than the radius requires, in sixteenths of a bit
    // per table: with 20, it is 2 in every fourth table and 1 in the others.
    uint32_t reach, slack;
    Strategy strategy;
    Hits* hits;
};

// The loops for one instruction set.
struct Kernel {
    const char* name;
    uint32_t lanes;  // rows per bit-sliced block
    // Append every live row within the radius to the hits, and some or all within the reach, once.
    Status (*search)(int chunks, const View&, const Request&);
    // Bit-slice `lanes` rows: plane p holds bit p of each row; chunks * 16 * lanes / 64 words.
    void (*slice)(int chunks, const uint8_t* rows, uint64_t* planes);
    // Permute the bits of rows. `table` has four words for each value of each nibble of a row.
    void (*scramble)(int chunks, const uint64_t* table, const uint8_t* packed, uint8_t* out,
                     size_t rows);
};

// Null if this build does not include it.
const Kernel* kernel_portable();
const Kernel* kernel_neon();
const Kernel* kernel_avx2();
const Kernel* kernel_avx512();

}  // namespace nciihash
