// The search loops. CMake compiles this file once for each instruction set, with NCIIHASH_ISA as
// the name of the result; the bindings pick one at run time. All of it is in an unnamed namespace.
//
// Two ways to find every row within a radius r, both exact:
//
// Multi-index hashing (Norouzi, Punjani and Fleet, 2012). A row within r of the query is near it in
// at least one chunk: with thresholds t_i, sum(t_i + 1) = r + 1, some d_i <= t_i (Qin et al., 2018).
// On the ring of chunks there even is one with d_i <= t_i and d_i + d_(i+1) <= t_i + t_(i+1) + 1
// (pigeonring, Qin and Xiao, 2018): the numbers d_i - t_i - 1 sum up to less than 0, so a walk
// around the ring can start where no partial sum reaches 0. A table a chunk finds the rows with
// d_i <= t_i; beside each row number lies its next chunk, so that the second condition is tested in
// a stream, before any row is fetched. A row comes up under every chunk that qualifies, and is
// reported under the first.
//
// The flat scan. Rows are bit-sliced in blocks: word p of a block has bit p of each row. A
// carry-save adder (Harley and Seal) counts the differing bits of all rows of a block at once, and
// gives a block up after the first planes when no row can be within the radius any more.
#include "kernel.hpp"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bit-slicing takes the lowest byte of a word to be the first; NumPy searches here instead"
#endif

#include <cstdlib>
#include <cstring>

#if defined(NCIIHASH_USE_AVX2) || defined(NCIIHASH_USE_AVX512)
#include <immintrin.h>
#elif defined(NCIIHASH_USE_NEON)
#include <arm_neon.h>
#endif

namespace nciihash {
namespace {

// ---- what differs between instruction sets ------------------------------------------------------

#if defined(NCIIHASH_USE_AVX512)
constexpr uint32_t lanes = 512;
#else
constexpr uint32_t lanes = 256;
#endif
constexpr int lane_words = lanes / 64;

typedef uint64_t Vec __attribute__((vector_size(lanes / 8), aligned(8), may_alias));

inline bool any(const Vec& v) {
#if defined(NCIIHASH_USE_AVX2)
    __m256i x = (__m256i)v;
    return !_mm256_testz_si256(x, x);
#else
    uint64_t all = 0;
    for (int i = 0; i < lane_words; i++) all |= v[i];
    return all != 0;
#endif
}

inline Vec splat(uint32_t word) {
#if defined(NCIIHASH_USE_AVX2)
    return (Vec)_mm256_set1_epi32((int)word);
#elif defined(NCIIHASH_USE_AVX512)
    return (Vec)_mm512_set1_epi32((int)word);
#else
    uint64_t twice = (uint64_t)word << 32 | word;
    Vec v = {};
    return v + twice;
#endif
}

// Signatures are read by whole cache lines, of which a bucket rarely touches more than it must.
// `Near` tells which of the 32 of a line differ from the query's in at most `limit` bits; its answer
// has `bits` bits for each signature, of which the lowest may be set.
constexpr uint32_t line_sigs = 32;

#if defined(NCIIHASH_USE_AVX512)
struct Near {
    static constexpr int bits = 1;
    __m512i sig, limit;
    Near(uint16_t s, int l)
        : sig(_mm512_set1_epi16((short)s)), limit(_mm512_set1_epi16((short)l)) {}
    uint64_t operator()(const uint16_t* line) const {
        __m512i x = _mm512_xor_si512(_mm512_load_si512(line), sig);
        return _mm512_cmple_epu16_mask(_mm512_popcnt_epi16(x), limit);
    }
};
#elif defined(NCIIHASH_USE_AVX2)
struct Near {
    static constexpr int bits = 2;
    __m256i sig, over;
    Near(uint16_t s, int l)
        : sig(_mm256_set1_epi16((short)s)), over(_mm256_set1_epi16((short)(l + 1))) {}
    uint32_t half(const uint16_t* sigs) const {
        const __m256i nibble = _mm256_set1_epi8(15);
        const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        __m256i x = _mm256_xor_si256(_mm256_load_si256((const __m256i*)sigs), sig);
        __m256i low = _mm256_shuffle_epi8(counts, _mm256_and_si256(x, nibble));
        __m256i high =
            _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble));
        __m256i sum = _mm256_maddubs_epi16(_mm256_add_epi8(low, high), _mm256_set1_epi8(1));
        return (uint32_t)_mm256_movemask_epi8(_mm256_cmpgt_epi16(over, sum));
    }
    uint64_t operator()(const uint16_t* line) const {
        return ((uint64_t)half(line + 16) << 32 | half(line)) & 0x5555555555555555u;
    }
};
#elif defined(NCIIHASH_USE_NEON)
struct Near {
    static constexpr int bits = 1;
    uint16x8_t sig, limit;
    Near(uint16_t s, int l) : sig(vdupq_n_u16(s)), limit(vdupq_n_u16((uint16_t)l)) {}
    uint64_t eight(const uint16_t* sigs) const {
        const uint16x8_t weights = {1, 2, 4, 8, 16, 32, 64, 128};
        uint8x16_t x = vreinterpretq_u8_u16(veorq_u16(vld1q_u16(sigs), sig));
        return vaddvq_u16(vandq_u16(vcleq_u16(vpaddlq_u8(vcntq_u8(x)), limit), weights));
    }
    uint64_t operator()(const uint16_t* line) const {
        return eight(line) | eight(line + 8) << 8 | eight(line + 16) << 16 | eight(line + 24) << 24;
    }
};
#else
struct Near {
    static constexpr int bits = 2;
    uint64_t sig, room;
    Near(uint16_t s, int l)
        : sig(s * 0x0001000100010001u), room((uint64_t)(0x8000 + l) * 0x0001000100010001u) {}
    uint64_t operator()(const uint16_t* line) const {
        uint64_t all = 0;
        for (int word = 7; word >= 0; word--) {
            uint64_t x = 0;
            for (int i = 0; i < 4; i++) x |= (uint64_t)line[4 * word + i] << (16 * i);
            x ^= sig;
            x -= x >> 1 & 0x5555555555555555u;
            x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
            x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
            x = (x + (x >> 8)) & 0x001f001f001f001fu;
            x = (room - x) >> 15 & 0x0001000100010001u;  // the top bit stays while x <= limit
            all = all << 8 | ((x | x >> 14 | x >> 28 | x >> 42) & 0x55);
        }
        return all;
    }
};
#endif

// ---- small parts --------------------------------------------------------------------------------

inline uint16_t chunk(const uint8_t* row, int i) {
    uint16_t value;
    std::memcpy(&value, row + 2 * i, 2);
    return value;
}

// Distance over the first `chunks` chunks.
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

inline bool report(const View& view, const Request& request, uint32_t query, uint32_t row,
                   uint32_t distance) {
    if (view.dead && (view.dead[row / 8] << (row % 8) & 0x80))
        return true;
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

// ---- flat scan ----------------------------------------------------------------------------------

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

// How many planes are worth counting before asking whether any row of a block is left: unrelated
// bits differ with probability 1/2, and 3.2 standard deviations are one lane in 1500.
int first_stop(int planes, uint32_t radius) {
    for (int p = 16; p < planes; p += 16) {
        int spare = p - 2 * (int)radius;  // twice the distance of the mean from the radius
        if (spare > 0 && 100 * spare * spare > 1024 * p) return p;
    }
    return planes;
}

constexpr uint32_t tile = 64;  // queries whose first masks stay in the first-level cache

template <int chunks>
struct Flat {
    const View& view;
    const Request& request;
    int stop = first_stop(chunks * 16, request.radius);
    uint32_t masks[tile][chunks * 16];

    Flat(const View& v, const Request& r) : view(v), request(r) {}

    // Compare rows [begin, end) with one query, a row at a time, giving up at the half.
    bool direct(uint32_t query, uint32_t begin, uint32_t end) const {
        constexpr int half = chunks >= 8 ? chunks / 8 * 4 : chunks;
        const uint8_t* q = request.queries + (size_t)query * chunks * 2;
        for (uint32_t row = begin; row < end; row++) {
            const uint8_t* data = view.rows + (size_t)row * chunks * 2;
            if (half < chunks && distance<half>(data, q) > request.radius) continue;
            uint32_t d = distance<chunks>(data, q);
            if (d <= request.radius && !report(view, request, query, row, d)) return false;
        }
        return true;
    }

    // Compare a bit-sliced block, of which `sliced` planes are there, with one query.
    bool block(uint32_t query, const uint64_t* planes, int sliced, const uint32_t* mask,
               uint32_t first) const {
        Counters c = {};
        int p = 0, until = stop;
        for (;;) {
            for (; p < until; p += 16) count16(c, planes, mask, p);
            Vec left = within(c, request.radius);
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
                    if (!direct(query, row, row + 1)) return false;
                }
            return true;
        }
    }

    // Answer queries picked[0 .. count) against the whole segment.
    bool run(const uint32_t* picked, uint32_t count) {
        alignas(64) uint64_t scratch[(size_t)chunks * 16 * lane_words];
        for (uint32_t t = 0; t < count; t += tile) {
            uint32_t many = count - t < tile ? count - t : tile;
            for (uint32_t k = 0; k < many; k++) {
                const uint8_t* q = request.queries + (size_t)picked[t + k] * chunks * 2;
                for (int p = 0; p < chunks * 16; p++)
                    masks[k][p] = 0u - (uint32_t)(q[p / 8] >> (p % 8) & 1);
            }
            uint32_t row = 0;
            for (; row + lanes <= view.plane_rows; row += lanes) {
                const uint64_t* planes = view.planes + (size_t)row / 64 * (chunks * 16);
                for (uint32_t k = 0; k < many; k++)
                    if (!block(picked[t + k], planes, chunks * 16, masks[k], row)) return false;
            }
            // Bit-slicing costs about as much as a dozen comparisons row by row.
            for (; many >= 12 && row + lanes <= view.count; row += lanes) {
                slice_block<chunks>(view.rows + (size_t)row * chunks * 2, scratch, stop);
                for (uint32_t k = 0; k < many; k++)
                    if (!block(picked[t + k], scratch, stop, masks[k], row)) return false;
            }
            for (uint32_t k = 0; k < many; k++)
                if (!direct(picked[t + k], row, view.count)) return false;
        }
        return true;
    }
};

// ---- multi-index hashing ------------------------------------------------------------------------

// Costs in sixteenths of a nanosecond, from measurements on one core of a server with DDR4.
constexpr uint64_t probe_cost = 320, entry_cost = 2, candidate_cost = 480;
constexpr uint64_t direct_cost = 20, sliced_cost = 8;  // flat scan, a row

constexpr uint32_t group_room = 32, candidate_room = 64;

// Up to group_room buckets of one table for one query: those whose keys are the query's with the
// bits masks[first .. first + count) flipped.
struct Group {
    uint32_t query, key, first, count;
    int table, flips;  // how many bits masks[first] flips
    uint32_t begin[group_room], end[group_room];
};

struct Candidate {
    size_t at;  // index into refs, then the row number
    uint32_t query;
    uint32_t table;
};

template <int chunks>
struct Mih {
    const View& view;
    const Request& request;
    int64_t* left;  // what each query may still cost; below 0 it is left to the flat scan
    bool measured = false;  // the cost of the buckets has been looked at before
    int thresholds[max_chunks];
    Status status = Status::ok;
    Group groups[4];  // their offsets are called for, then their signatures; the oldest is scanned
    uint32_t group_count = 0;
    Candidate candidates[candidate_room];
    uint32_t candidate_count = 0;

    Mih(const View& v, const Request& r, int64_t* budgets) : view(v), request(r), left(budgets) {
        int share = (int)(request.radius + 1) / view.tables;
        int extra = (int)(request.radius + 1) % view.tables;
        for (int i = 0; i < view.tables; i++) thresholds[i] = share - 1 + (i < extra);
    }

    // The most bits of the signature that may differ besides `flips` in the key; negative: none do.
    int limit(int table, int flips) const {
        int room = thresholds[table] - flips;
        if (view.stride == 1) room += thresholds[table + 1 < view.tables ? table + 1 : 0] + 1;
        return room < 16 ? room : 16;
    }

    int reach(int table) const {
        return thresholds[table] < view.key_bits ? thresholds[table] : view.key_bits;
    }

    bool possible() const {
        for (int i = 0; i < view.tables; i++)
            if (thresholds[i] > max_flips) return false;
        return true;
    }

    uint32_t probes_of(int table) const {
        return thresholds[table] < 0 ? 0 : view.flips.ends[reach(table)];
    }

    // What the candidates of a query would cost were the bank uniform.
    int64_t expected_candidates() const {
        double share = 0;  // of all rows
        for (int i = 0; i < view.tables; i++) {
            double key = 1;  // how many keys have so many bits flipped
            for (int flips = 0; flips <= reach(i) && limit(i, flips) >= 0; flips++) {
                double sig = 1, sigs = 0;
                for (int k = 0; k <= limit(i, flips); k++) {
                    sigs += sig;
                    sig *= (16.0 - k) / (k + 1);
                }
                share += key / (1u << view.key_bits) * sigs / 65536;
                key *= double(view.key_bits - flips) / (flips + 1);
            }
        }
        return (int64_t)(share * view.count * candidate_cost);
    }

    // What a query would cost besides were the bank uniform.
    int64_t expected() const {
        uint64_t cost = 0, entries = (uint64_t)view.count >> view.key_bits;
        if (view.words > 1) entries = entries * 5 / 8;
        for (int i = 0; i < view.tables; i++)
            cost += probes_of(i) * (probe_cost + entry_cost * entries);
        return (int64_t)cost;
    }

    const uint32_t* offset_of(int table, uint32_t key) const {
        return view.offsets + ((size_t)table * ((1u << view.key_bits) + 1) + key) * view.words;
    }

    const uint8_t* query(uint32_t q) const { return request.queries + (size_t)q * chunks * 2; }

    uint32_t key_of(const uint8_t* row, int table) const {
        return (uint32_t)chunk(row, table * view.stride) >> (16 - view.key_bits);
    }

    // What the buckets of a query really cost.
    int64_t bucket_cost(uint32_t q) const {
        uint64_t cost = 0;
        for (int i = 0; i < view.tables; i++) {
            uint32_t key = key_of(query(q), i);
            for (uint32_t m = 0; m < probes_of(i); m++) {
                const uint32_t* offset = offset_of(i, key ^ view.flips.masks[m]);
                uint32_t size = offset[view.words] - offset[0];
                cost += probe_cost + entry_cost * (size < view.count ? size : view.count);
            }
        }
        return (int64_t)cost;
    }

    // Look at all buckets of one table that a query must look at.
    void probe(uint32_t q, int table) {
        uint32_t key = key_of(query(q), table), first = 0;
        for (int flips = 0; flips <= reach(table) && limit(table, flips) >= 0;) {
            // A group goes on over several numbers of flips.
            uint32_t count = 0;
            int from = flips;
            while (count < group_room && flips <= reach(table) && limit(table, flips) >= 0) {
                uint32_t rest = view.flips.ends[flips] - first - count;
                count += rest < group_room - count ? rest : group_room - count;
                if (first + count == view.flips.ends[flips]) flips++;
            }
            start(q, key, first, count, table, from);
            first += count;
        }
    }

    // Call for the offsets of a new group, and take those before it a step further.
    void start(uint32_t q, uint32_t key, uint32_t first, uint32_t count, int table, int flips) {
        Group& fresh = groups[group_count % 4];
        fresh.query = q;
        fresh.key = key;
        fresh.first = first;
        fresh.count = count;
        fresh.table = table;
        fresh.flips = flips;
        for (uint32_t m = 0; m < fresh.count; m++)
            __builtin_prefetch(offset_of(fresh.table, key_in(fresh, m)));
        if (group_count > 0) locate(groups[(group_count - 1) % 4]);
        if (group_count > 2) scan(groups[(group_count - 3) % 4]);
        group_count++;
    }

    void finish() {
        if (group_count > 0) locate(groups[(group_count - 1) % 4]);
        for (uint32_t back = 3; back > 0; back--)
            if (group_count >= back) scan(groups[(group_count - back) % 4]);
        group_count = 0;
        fetch();
    }

    uint32_t key_in(const Group& group, uint32_t m) const {
        return group.key ^ view.flips.masks[group.first + m];
    }

    // The chunk that a table keeps beside its keys.
    uint16_t sig_of(uint32_t q, int table) const {
        int next = table * view.stride + 1;
        return chunk(query(q), next < chunks ? next : 0);
    }

    // The part of a bucket in which signatures can have as many ones as `ones`, give or take `room`.
    static void narrow(const uint32_t* offset, int ones, int room, uint32_t& begin, uint32_t& end) {
        const uint8_t* bounds = (const uint8_t*)(offset + 1);
        uint64_t size = end - begin;
        int least = ones - room - window_first, above = ones + room + 1 - window_first;
        if (above < window_bounds) {
            uint32_t parts = bounds[above > 0 ? above : 0] + 1u;
            end = begin + (uint32_t)((size * parts + 255) >> 8);
        }
        if (least >= 0)
            begin += (uint32_t)(size * bounds[least < window_bounds ? least : window_bounds - 1] >> 8);
    }

    // Look up where the buckets of a group lie and call for their signatures.
    void locate(Group& group) {
        uint64_t entries = 0;
        const uint32_t* offsets = offset_of(group.table, 0);
        const uint16_t* sigs = view.sigs + (size_t)group.table * view.count;
        int ones = __builtin_popcount(sig_of(group.query, group.table)), flips = group.flips;
        bool sound = true;
        for (uint32_t m = 0; m < group.count; m++) {
            if (group.first + m == view.flips.ends[flips]) flips++;
            const uint32_t* offset = offsets + (size_t)key_in(group, m) * view.words;
            uint32_t begin = offset[0], end = offset[view.words];
            sound &= begin <= end && end <= view.count;
            if (view.words > 1) narrow(offset, ones, limit(group.table, flips), begin, end);
            group.begin[m] = begin;
            group.end[m] = end;
            entries += end - begin;
            // the first and the last line without a question, for most buckets have one or two
            __builtin_prefetch(sigs + begin);
            __builtin_prefetch(sigs + end - (begin < end));
            if (end - begin > line_sigs && sound)
                for (uint32_t k = 1; k < 8 && begin + line_sigs * k < end; k++)
                    __builtin_prefetch(sigs + begin + line_sigs * k);
        }
        if (!sound) {  // only in a damaged file
            status = Status::corrupt;
            group.count = 0;
        }
        if (!measured)
            left[group.query] -= (int64_t)(group.count * probe_cost + entries * entry_cost);
    }

    // Stream the signatures of a group.
    void scan(const Group& group) {
        if (left[group.query] < 0) return;
        size_t base = (size_t)group.table * view.count;
        const uint16_t* sigs = view.sigs + base;
        int flips = group.flips;
        uint16_t sig = sig_of(group.query, group.table);
        Near near(sig, limit(group.table, flips));
        for (uint32_t m = 0; m < group.count; m++) {
            if (group.first + m == view.flips.ends[flips])
                near = Near(sig, limit(group.table, ++flips));
            uint32_t begin = group.begin[m], end = group.end[m];
            if (begin == end) continue;
            uint32_t before = (uint32_t)((uintptr_t)(sigs + begin) / 2 % line_sigs);
            uint64_t wanted = ~0ull << (before * Near::bits);
            for (int64_t at = (int64_t)begin - before; at < end; at += line_sigs) {
                uint64_t found = near(sigs + at) & wanted;
                wanted = ~0ull;
                int64_t rest = end - at;
                if (rest < line_sigs) found &= (1ull << (rest * Near::bits)) - 1;
                for (; found; found &= found - 1) {
                    size_t entry = base + at + (uint32_t)__builtin_ctzll(found) / Near::bits;
                    __builtin_prefetch(view.refs + entry);
                    candidates[candidate_count++] =
                        Candidate{entry, group.query, (uint32_t)group.table};
                    if (candidate_count < candidate_room) continue;
                    fetch();
                    if (left[group.query] < 0) return;
                }
            }
        }
    }

    // The first table under which a row qualifies.
    int first_table(const uint8_t* row, const uint8_t* q) const {
        for (int i = 0; i < view.tables; i++) {
            int at = i * view.stride, next = at + 1 < chunks ? at + 1 : 0;
            int d = __builtin_popcount((uint32_t)(chunk(row, at) ^ chunk(q, at)));
            if (d <= thresholds[i] &&
                __builtin_popcount((uint32_t)(chunk(row, next) ^ chunk(q, next))) <= limit(i, d))
                return i;
        }
        return -1;
    }

    // Fetch the rows of all candidates and report the true ones.
    void fetch() {
        for (uint32_t k = 0; k < candidate_count; k++) {
            uint32_t row = view.refs[candidates[k].at];
            if (row >= view.count) {
                status = Status::corrupt;
                candidate_count = 0;
                return;
            }
            candidates[k].at = row;
            left[candidates[k].query] -= (int64_t)candidate_cost;
            __builtin_prefetch(view.rows + (size_t)row * chunks * 2);
        }
        for (uint32_t k = 0; k < candidate_count; k++) {
            const Candidate& c = candidates[k];
            const uint8_t* row = view.rows + c.at * chunks * 2;
            uint32_t d = distance<chunks>(row, query(c.query));
            if (d > request.radius || first_table(row, query(c.query)) != (int)c.table) continue;
            if (!report(view, request, c.query, (uint32_t)c.at, d)) status = Status::no_memory;
        }
        candidate_count = 0;
    }

    // Queries go table by table, so that the offsets of a table stay in the cache.
    void run(const uint32_t* picked, uint32_t count) {
        for (int table = 0; table < view.tables && status == Status::ok; table++)
            for (uint32_t k = 0; k < count; k++)
                if (left[picked[k]] >= 0) probe(picked[k], table);
        finish();
    }
};

// Choose a way for each query. One that the index turns out to serve worse than the model said is
// given up, what was found for it is taken back, and the flat scan answers it.
template <int chunks>
Status search(const View& view, const Request& request) {
    uint32_t count = request.count;
    // budgets, then the queries for the index, then those for the flat scan
    size_t room = sizeof(int64_t) + 2 * sizeof(uint32_t);
    int64_t* left = (int64_t*)std::calloc((size_t)count + 1, room);
    if (!left) return Status::no_memory;
    uint32_t* indexed = (uint32_t*)(left + count);
    uint32_t* scanned = indexed + count;
    uint32_t indexed_count = 0, scanned_count = 0;
    Status status = Status::ok;

    if (view.offsets && request.way != Way::scan) {
        Mih<chunks> mih(view, request, left);
        int64_t flat = view.count * (int64_t)(count >= 12 ? sliced_cost : direct_cost);
        if (request.way == Way::index) flat = INT64_MAX / 4;
        int64_t expected = INT64_MAX / 2, candidates = 0;
        if (mih.possible()) {
            candidates = mih.expected_candidates();
            expected = mih.expected() + candidates;
        }
        mih.measured = expected >= flat / 20;  // below, even a surprise costs little
        for (uint32_t q = 0; q < count; q++) {
            int64_t cost = expected;
            if (mih.measured && expected < flat) cost = mih.bucket_cost(q) + candidates;
            left[q] = flat / 10 + (mih.measured ? 2 * candidates : 0);
            if (cost < flat) indexed[indexed_count++] = q;
            else scanned[scanned_count++] = q;
        }
        size_t before = request.hits->size;
        mih.run(indexed, indexed_count);
        status = mih.status;
        uint32_t kept_count = scanned_count;
        for (uint32_t k = 0; k < indexed_count; k++)
            if (left[indexed[k]] < 0) scanned[scanned_count++] = indexed[k];
        if (scanned_count > kept_count) {
            size_t kept = before;
            for (size_t h = before; h < request.hits->size; h++) {
                const Hit& hit = request.hits->data[h];
                if (left[hit.query] >= 0) request.hits->data[kept++] = hit;
            }
            request.hits->size = kept;
        }
    } else {
        for (uint32_t q = 0; q < count; q++) scanned[scanned_count++] = q;
    }
    if (status == Status::ok && scanned_count) {
        Flat<chunks> flat(view, request);
        if (!flat.run(scanned, scanned_count)) status = Status::no_memory;
    }
    std::free(left);
    return status;
}

Status search_any(int chunks, const View& view, const Request& request) {
    switch (chunks) {
        case 4: return search<4>(view, request);
        case 8: return search<8>(view, request);
        case 9: return search<9>(view, request);
        case 10: return search<10>(view, request);
        default: return search<16>(view, request);
    }
}

void slice_any(int chunks, const uint8_t* rows, uint64_t* planes) {
    switch (chunks) {
        case 4: return slice_block<4>(rows, planes, 64);
        case 8: return slice_block<8>(rows, planes, 128);
        case 9: return slice_block<9>(rows, planes, 144);
        case 10: return slice_block<10>(rows, planes, 160);
        default: return slice_block<16>(rows, planes, 256);
    }
}

void scramble(int chunks, const uint64_t* table, const uint8_t* packed, uint8_t* out, size_t rows) {
    size_t bytes = (size_t)chunks * 2;
    for (size_t row = 0; row < rows; row++, packed += bytes, out += bytes) {
        uint64_t sum[4] = {};
        for (size_t i = 0; i < bytes; i++) {
            const uint64_t* high = table + (i * 32 + (packed[i] >> 4)) * 4;
            const uint64_t* low = table + (i * 32 + 16 + (packed[i] & 15)) * 4;
            for (int w = 0; w < 4; w++) sum[w] |= high[w] | low[w];
        }
        std::memcpy(out, sum, bytes);
    }
}

#define NCIIHASH_STRING2(x) #x
#define NCIIHASH_STRING(x) NCIIHASH_STRING2(x)
#define NCIIHASH_JOIN2(a, b) a##b
#define NCIIHASH_JOIN(a, b) NCIIHASH_JOIN2(a, b)

const Kernel kernel = {NCIIHASH_STRING(NCIIHASH_ISA), lanes, search_any, slice_any, scramble};

}  // namespace

const Kernel* NCIIHASH_JOIN(kernel_, NCIIHASH_ISA)() { return &kernel; }

}  // namespace nciihash
