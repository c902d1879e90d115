// The chunks of a row, the distance of two rows, and the list of hits. Only kernel.cpp includes
// this file.
#pragma once

#include <cstdlib>
#include <cstring>

#include "kernel.hpp"

namespace nciihash {
namespace {

inline uint16_t chunk(const uint8_t* row, int i) {
    uint16_t value;
    std::memcpy(&value, row + 2 * i, 2);
    return value;
}

// The Hamming distance of the first `chunks` chunks.
template <int chunks>
inline uint32_t distance(const uint8_t* a, const uint8_t* b) {
    uint32_t sum = 0;
    for (int i = 0; i < chunks / 4; i++) {
        uint64_t x, y;
        std::memcpy(&x, a + 8 * i, 8);
        std::memcpy(&y, b + 8 * i, 8);
        sum += (uint32_t)__builtin_popcountll(x ^ y);
    }
    for (int i = chunks / 4 * 4; i < chunks; i++)
        sum += (uint32_t)__builtin_popcount((uint32_t)(chunk(a, i) ^ chunk(b, i)));
    return sum;
}

// Append a hit, unless the row is removed; false if there is no memory.
inline bool report(const View& view, const Request& request, uint32_t query, uint32_t row,
                   uint32_t distance) {
    if (view.removed && (view.removed[row / 8] << (row % 8) & 0x80)) return true;
    Hits& hits = *request.hits;
    if (hits.size == hits.capacity) {
        size_t capacity = hits.capacity ? hits.capacity * 2 : 64;
        Hit* grown = (Hit*)std::realloc(hits.data, capacity * sizeof(Hit));
        if (!grown) return false;
        hits.data = grown;
        hits.capacity = capacity;
    }
    hits.data[hits.size++] = Hit{query, distance, view.ids[row]};
    return true;
}

}  // namespace
}  // namespace nciihash
