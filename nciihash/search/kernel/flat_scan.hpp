// The flat scan compares every row with the query. Rows are bit-sliced in blocks: word p of a block
// has bit p of each row. A carry-save adder (Harley and Seal) counts the differing bits of all rows
// of a block at once, and abandons a block when no row can be within the radius any more. Only
// kernel.cpp includes this file.
#pragma once

#include "kernel.hpp"
#include "rows.hpp"
#include "simd.hpp"

namespace nciihash {
namespace {

// Transpose 8 x 8 bits (Hacker's Delight, 7-3).
inline uint64_t transpose8(uint64_t x) {
    uint64_t t = (x ^ (x >> 7)) & 0x00aa00aa00aa00aau;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000cccc0000ccccu;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x00000000f0f0f0f0u;
    return x ^ t ^ (t << 28);
}

// Bit-slice the first `planes_wanted` (a multiple of 8) bits of `lanes` rows.
template <int chunks>
void slice_block(const uint8_t* rows, uint64_t* planes, int planes_wanted) {
    uint8_t* out = (uint8_t*)planes;
    for (uint32_t group = 0; group < lanes / 8; group++) {
        const uint8_t* first = rows + (size_t)group * 8 * chunks * 2;
        for (int byte = 0; byte < planes_wanted / 8; byte++) {
            uint64_t x = 0;
            for (int i = 0; i < 8; i++) x |= (uint64_t)first[i * chunks * 2 + byte] << (8 * i);
            x = transpose8(x);
            for (int i = 0; i < 8; i++)
                out[(size_t)(byte * 8 + i) * (lanes / 8) + group] = (uint8_t)(x >> (8 * i));
        }
    }
}

// Bit-sliced counters: bit[k] holds bit k of the count of each lane.
struct Counters {
    Vec bit[9];
};

// low + a + b = 2 * high + low
inline void add(Vec& high, Vec& low, Vec a, Vec b) {
    Vec u = low ^ a;
    high = (low & a) | (u & b);
    low = u ^ b;
}

inline Vec differing(const uint64_t* planes, const uint32_t* masks, int p) {
    return *(const Vec*)(planes + (size_t)p * lane_words) ^ splat(masks[p]);
}

// Count 16 more planes.
inline void count16(Counters& c, const uint64_t* planes, const uint32_t* masks, int p) {
    Vec two_a, two_b, four_a, four_b, eight_a, eight_b, carry;
    auto d = [&](int k) { return differing(planes, masks, p + k); };
    add(two_a, c.bit[0], d(0), d(1));
    add(two_b, c.bit[0], d(2), d(3));
    add(four_a, c.bit[1], two_a, two_b);
    add(two_a, c.bit[0], d(4), d(5));
    add(two_b, c.bit[0], d(6), d(7));
    add(four_b, c.bit[1], two_a, two_b);
    add(eight_a, c.bit[2], four_a, four_b);
    add(two_a, c.bit[0], d(8), d(9));
    add(two_b, c.bit[0], d(10), d(11));
    add(four_a, c.bit[1], two_a, two_b);
    add(two_a, c.bit[0], d(12), d(13));
    add(two_b, c.bit[0], d(14), d(15));
    add(four_b, c.bit[1], two_a, two_b);
    add(eight_b, c.bit[2], four_a, four_b);
    add(carry, c.bit[3], eight_a, eight_b);
    for (int k = 4; k < 9; k++) {
        Vec next = c.bit[k] & carry;
        c.bit[k] ^= carry;
        carry = next;
    }
}

// The lanes whose count is at most `radius` (below 512).
inline Vec within(const Counters& c, uint32_t radius) {
    Vec over = {}, equal = ~over;
    for (int k = 8; k >= 0; k--) {
        if (radius >> k & 1) {
            equal &= c.bit[k];
        } else {
            over |= equal & c.bit[k];
            equal &= ~c.bit[k];
        }
    }
    return ~over;
}

// How many planes to count before checking whether any row of a block is left. Unrelated bits
// differ with probability 1/2; beyond 3.2 standard deviations there is one lane in 1500.
int first_stop(int planes, uint32_t radius) {
    for (int p = 16; p < planes; p += 16) {
        int spare = p - 2 * (int)radius;  // twice the distance of the mean from the radius
        if (spare > 0 && 100 * spare * spare > 1024 * p) return p;
    }
    return planes;
}

constexpr uint32_t tile = 64;  // queries whose first masks fit in the first-level cache

template <int chunks>
struct FlatScan {
    const View& view;
    const Request& request;
    int stop = first_stop(chunks * 16, request.reach);
    uint32_t masks[tile][chunks * 16];

    FlatScan(const View& v, const Request& r) : view(v), request(r) {}

    // Compare rows [begin, end) with one query, row by row; skip a row that differs too much in its
    // first half.
    bool scan_rows(uint32_t query, uint32_t begin, uint32_t end) const {
        constexpr int half = chunks >= 8 ? chunks / 8 * 4 : chunks;
        const uint8_t* q = request.queries + (size_t)query * chunks * 2;
        for (uint32_t row = begin; row < end; row++) {
            const uint8_t* data = view.rows + (size_t)row * chunks * 2;
            if (half < chunks && distance<half>(data, q) > request.reach) continue;
            uint32_t d = distance<chunks>(data, q);
            if (d <= request.reach && !report(view, request, query, row, d)) return false;
        }
        return true;
    }

    // Compare a bit-sliced block, of which the first `sliced` planes exist, with one query.
    bool scan_block(uint32_t query, const uint64_t* planes, int sliced, const uint32_t* mask,
                    uint32_t first) const {
        Counters c = {};
        int p = 0, until = stop;
        for (;;) {
            for (; p < until; p += 16) count16(c, planes, mask, p);
            Vec left = within(c, request.reach);
            if (!any(left)) return true;
            int rest = 0;
            for (int w = 0; w < lane_words; w++) rest += __builtin_popcountll(left[w]);
            if (rest > 8 && until < sliced) {
                until = until + 64 < sliced ? until + 64 : sliced;
                continue;
            }
            for (int w = 0; w < lane_words; w++)
                for (uint64_t bits = left[w]; bits; bits &= bits - 1) {
                    uint32_t row = first + (uint32_t)(w * 64 + __builtin_ctzll(bits));
                    if (!scan_rows(query, row, row + 1)) return false;
                }
            return true;
        }
    }

    // Answer the queries picked[0 .. count) from the whole segment.
    bool run(const uint32_t* picked, uint32_t count) {
        alignas(64) uint64_t scratch[(size_t)chunks * 16 * lane_words];
        for (uint32_t t = 0; t < count; t += tile) {
            uint32_t batch = count - t < tile ? count - t : tile;
            for (uint32_t k = 0; k < batch; k++) {
                const uint8_t* q = request.queries + (size_t)picked[t + k] * chunks * 2;
                for (int p = 0; p < chunks * 16; p++)
                    masks[k][p] = 0u - (uint32_t)(q[p / 8] >> (p % 8) & 1);
            }
            uint32_t row = 0;
            for (; row + lanes <= view.plane_rows; row += lanes) {
                const uint64_t* planes = view.planes + (size_t)row / 64 * (chunks * 16);
                for (uint32_t k = 0; k < batch; k++)
                    if (!scan_block(picked[t + k], planes, chunks * 16, masks[k], row))
                        return false;
            }
            // Bit-slicing a block costs about as much as comparing it row by row a dozen times.
            for (; batch >= 12 && row + lanes <= view.count; row += lanes) {
                slice_block<chunks>(view.rows + (size_t)row * chunks * 2, scratch, stop);
                for (uint32_t k = 0; k < batch; k++)
                    if (!scan_block(picked[t + k], scratch, stop, masks[k], row)) return false;
            }
            for (uint32_t k = 0; k < batch; k++)
                if (!scan_rows(picked[t + k], row, view.count)) return false;
        }
        return true;
    }
};

}  // namespace
}  // namespace nciihash
