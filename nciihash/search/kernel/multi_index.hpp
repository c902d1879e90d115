// Multi-index hashing (Norouzi, Punjani and Fleet, 2012). A row within a radius r of the query is
// near it in at least one chunk: with thresholds t_i, sum(t_i + 1) = r + 1, some d_i <= t_i (Qin et
// al., 2018). On the ring of chunks there even is one with d_i <= t_i and
// d_i + d_(i+1) <= t_i + t_(i+1) + 1 (pigeonring, Qin and Xiao, 2018): the numbers d_i - t_i - 1 sum
// up to less than 0, so a walk around the ring can start where no partial sum reaches 0. A table a
// chunk finds the rows with d_i <= t_i; next to each row number is its next chunk, so that the second
// condition is tested in a stream, before any row is fetched. A row comes up under every chunk that
// qualifies, and is reported under the first. Only kernel.cpp includes this file.
#pragma once

#include "kernel.hpp"
#include "rows.hpp"
#include "simd.hpp"

namespace nciihash {
namespace {

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

}  // namespace
}  // namespace nciihash
