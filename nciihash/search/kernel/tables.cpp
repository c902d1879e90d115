// Counting sorts that build the tables of a segment. They are bound by memory, not by instructions:
// each pass stays within the second-level cache, and scratch memory is a few columns, since
// allocating fresh pages costs more than sorting their contents.
#include "tables.hpp"

#include <algorithm>
#include <cstring>

#include "kernel.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

namespace nciihash {
namespace {

struct Entry {
    uint32_t row;
    uint16_t slot;  // the lower bits of the key and, with windows, the number of ones in `sig`
    uint16_t sig;
};

struct Ones {
    uint8_t of[256];
    Ones() {
        for (int value = 0; value < 256; value++) of[value] = (uint8_t)__builtin_popcount(value);
    }
};

// The extra words of an offset: see `window_bounds` in kernel.hpp.
void write_bounds(const uint32_t* starts, uint32_t begin, uint32_t size, uint32_t* offset) {
    uint8_t bounds[window_bounds];
    for (int j = 0; j < window_bounds; j++) {
        uint64_t before = starts[window_first + j] - begin;
        bounds[j] = size ? (uint8_t)std::min<uint64_t>(before * 256 / size, 255) : 0;
    }
    std::memcpy(offset + 1, bounds, sizeof bounds);
}

// Fill one table by two passes of counting sort: by the upper byte of the key into `entries`, then
// each part by the rest of the key.
void build_table(const Source& source, const uint16_t* keys, const uint16_t* next, Entry* entries,
                 uint32_t* offsets, uint32_t* refs, uint16_t* sigs) {
    static const Ones ones;
    uint32_t count = source.count;
    int low_bits = source.key_bits - 8, words = source.words;
    bool windows = words > 1;
    uint32_t classes = windows ? 17 : 1, mask = (1u << low_bits) - 1;
    uint32_t starts[257] = {};
    for (uint32_t i = 0; i < count; i++) starts[(keys[i] >> 8) + 1]++;
    for (int k = 0; k < 256; k++) starts[k + 1] += starts[k];
    uint32_t ends[256];
    std::memcpy(ends, starts, sizeof ends);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = (keys[i] >> (16 - source.key_bits) & mask) * classes;
        if (windows) slot += ones.of[next[i] >> 8] + ones.of[next[i] & 255];
        entries[ends[keys[i] >> 8]++] = Entry{i, (uint16_t)slot, next[i]};
    }
    std::vector<uint32_t> fill((size_t)classes << low_bits);
    for (uint32_t part = 0; part < 256; part++) {
        uint32_t* offset = offsets + ((size_t)part << low_bits) * words;
        std::fill(fill.begin(), fill.end(), 0);
        for (uint32_t i = starts[part]; i < starts[part + 1]; i++) fill[entries[i].slot]++;
        uint32_t position = starts[part];
        for (uint32_t k = 0; k <= mask; k++, offset += words) {
            uint32_t begin = position, *of_key = fill.data() + (size_t)k * classes;
            for (uint32_t c = 0; c < classes; c++) {
                uint32_t size = of_key[c];
                of_key[c] = position;
                position += size;
            }
            offset[0] = begin;
            if (windows) write_bounds(of_key, begin, position - begin, offset);
        }
        for (uint32_t i = starts[part]; i < starts[part + 1]; i++) {
            uint32_t to = fill[entries[i].slot]++;
            refs[to] = entries[i].row;
            sigs[to] = entries[i].sig;
        }
    }
    uint32_t* last = offsets + ((size_t)words << source.key_bits);
    std::fill_n(last, words, 0);
    last[0] = count;
}

}  // namespace

int threads_allowed() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1, (int)std::thread::hardware_concurrency());
}

void build_tables(const Source& source, int threads, uint32_t* offsets, uint32_t* refs,
                  uint16_t* sigs) {
    size_t count = source.count, width = (size_t)source.chunks * 2;
    int chunks = source.chunks, stride = source.stride, tables = chunks / stride;
    size_t words = (((size_t)1 << source.key_bits) + 1) * source.words;
    std::fill_n(sigs + tables * count, sig_padding, (uint16_t)0);
    // Each worker builds a few tables at a time, from the chunks they need, copied into columns.
    int workers = std::min(std::max(threads, 1), tables);
    int together = std::min(4, (tables + workers - 1) / workers);
    int columns = std::min(stride == 1 ? together + 1 : together * 2, chunks);
    int groups = (tables + together - 1) / together;
    spread(workers, workers, [&](int worker) {
        Memory<Entry> entries(reserve<Entry>(count), std::free);
        Memory<uint16_t> column(reserve<uint16_t>(columns * count), std::free);
        for (int group = worker; group < groups; group += workers) {
            int from = group * together, until = std::min(from + together, tables);
            for (size_t i = 0; i < count; i++)
                for (int c = 0; c < columns; c++)
                    std::memcpy(&column[c * count + i],
                                source.rows + i * width + (from * stride + c) % chunks * 2, 2);
            for (int table = from; table < until; table++) {
                const uint16_t* keys = &column[(table - from) * stride * count];
                const uint16_t* next = &column[((table - from) * stride + 1) % columns * count];
                build_table(source, keys, next, entries.get(), offsets + table * words,
                            refs + table * count, sigs + table * count);
            }
        }
    });
}

}  // namespace nciihash
