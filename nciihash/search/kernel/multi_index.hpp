// Multi-index hashing (Norouzi, Punjani and Fleet, 2012). A row within radius r of the query is
// close to it in at least one chunk: with thresholds t_i such that sum(t_i + 1) = r + 1, there is a
// chunk with d_i <= t_i (the general pigeonhole principle; Qin et al., 2018). On the ring of chunks
// there is even one with d_i <= t_i and d_i + d_(i+1) <= t_i + t_(i+1) + 1 (the pigeonring
// principle; Qin and Xiao, 2018): the numbers d_i - t_i - 1 sum to less than 0, so that a walk
// around the ring can start where no partial sum reaches 0.
//
// The table of a chunk finds the rows with d_i <= t_i. Each entry also has the row's signature, its
// next chunk, so that the second condition is tested by streaming signatures, before any row is
// fetched. A row can qualify under several chunks; it is reported under the first.
//
// With a reach beyond the radius, rows within the reach that meet the same two conditions are also
// reported. The second condition is then relaxed by some bits (`slack`), because it would exclude
// many of them: the further a row, the more bits of its signature differ. The probes do not change.
// Only kernel.cpp includes this file.
#pragma once

#include "kernel.hpp"
#include "rows.hpp"
#include "simd.hpp"

namespace nciihash {
namespace {

// Costs in sixteenths of a nanosecond, from measurements on one core of a server with DDR4.
constexpr uint64_t probe_cost = 320, entry_cost = 2, candidate_cost = 480;
constexpr uint64_t direct_cost = 20, sliced_cost = 8;  // per row of a flat scan

constexpr uint32_t group_capacity = 32;
constexpr uint32_t lag = 32, ring = 4 * lag;  // candidates, see `add`

// Up to group_capacity buckets of one table for one query. Their keys are the query's with the bits
// of masks[first .. first + count) flipped.
struct Group {
    uint32_t query, key, first, count;
    int table, flips;  // flips: how many bits masks[first] flips
    uint32_t begin[group_capacity], end[group_capacity];
};

struct Candidate {
    size_t at;  // first an index into refs, then the row number
    uint32_t query;
    uint32_t table;
};

template <int chunks>
struct MultiIndex {
    const View& view;
    const Request& request;
    int64_t* budgets;       // remaining cost of each query; below 0 the flat scan takes over
    bool measured = false;  // whether the cost of the buckets was computed in advance
    int thresholds[max_chunks];
    Status status = Status::ok;
    // A pipeline: a new group's offsets are prefetched, then its signatures; the oldest is scanned.
    Group groups[4];
    uint32_t group_count = 0;
    Candidate candidates[ring];
    size_t candidate_count = 0;

    MultiIndex(const View& v, const Request& r, int64_t* b) : view(v), request(r), budgets(b) {
        int share = (int)(request.radius + 1) / view.tables;
        int extra = (int)(request.radius + 1) % view.tables;
        for (int i = 0; i < view.tables; i++) thresholds[i] = share - 1 + (i < extra);
    }

    // How many bits of a signature may differ if `flips` bits of the key do; negative if the row
    // cannot qualify. Any slack keeps the search exact within the radius.
    int limit(int table, int flips) const {
        int bits = thresholds[table] - flips;
        if (view.stride == 1) bits += thresholds[table + 1 < view.tables ? table + 1 : 0] + 1;
        int slack = (int)request.slack;
        bits += (table + 1) * slack / 16 - table * slack / 16;
        return bits < 16 ? bits : 16;
    }

    // How many bits of a key are flipped at most.
    int flips_max(int table) const {
        return thresholds[table] < view.key_bits ? thresholds[table] : view.key_bits;
    }

    // Whether the radius is small enough for the table's probes.
    bool applicable() const {
        for (int i = 0; i < view.tables; i++)
            if (thresholds[i] > max_flips) return false;
        return true;
    }

    uint32_t probes_of(int table) const {
        return thresholds[table] < 0 ? 0 : view.flips.ends[flips_max(table)];
    }

    // The cost of a query's candidates, if the bank were uniform.
    int64_t expected_candidate_cost() const {
        double share = 0;  // of all rows
        for (int i = 0; i < view.tables; i++) {
            double key = 1;  // the number of keys with so many bits flipped
            for (int flips = 0; flips <= flips_max(i) && limit(i, flips) >= 0; flips++) {
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

    // The cost of a query's probes and entries, if the bank were uniform.
    int64_t expected_probe_cost() const {
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

    // The actual cost of a query's probes and entries.
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

    // Probe all buckets of one table that can have matches of a query.
    void probe(uint32_t q, int table) {
        uint32_t key = key_of(query(q), table), first = 0;
        for (int flips = 0; flips <= flips_max(table) && limit(table, flips) >= 0;) {
            // A group can span several numbers of flips.
            uint32_t count = 0;
            int from = flips;
            while (count < group_capacity && flips <= flips_max(table) &&
                   limit(table, flips) >= 0) {
                uint32_t rest = view.flips.ends[flips] - first - count;
                count += rest < group_capacity - count ? rest : group_capacity - count;
                if (first + count == view.flips.ends[flips]) flips++;
            }
            start(q, key, first, count, table, from);
            first += count;
        }
    }

    // Prefetch the offsets of a new group, and advance the previous groups by one step.
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
        size_t fetched = candidate_count > lag ? candidate_count - lag : 0;
        for (; fetched < candidate_count; fetched++) fetch(fetched);
        size_t compared = candidate_count > 2 * lag ? candidate_count - 2 * lag : 0;
        for (; compared < candidate_count; compared++) compare(compared);
        candidate_count = 0;
    }

    uint32_t key_in(const Group& group, uint32_t m) const {
        return group.key ^ view.flips.masks[group.first + m];
    }

    // The query's signature in a table: the chunk after the key's.
    uint16_t sig_of(uint32_t q, int table) const {
        int next = table * view.stride + 1;
        return chunk(query(q), next < chunks ? next : 0);
    }

    // Narrow a bucket to the part whose signatures have ones - tolerance to ones + tolerance ones.
    static void narrow(const uint32_t* offset, int ones, int tolerance, uint32_t& begin,
                       uint32_t& end) {
        const uint8_t* bounds = (const uint8_t*)(offset + 1);
        uint64_t size = end - begin;
        int least = ones - tolerance - window_first, above = ones + tolerance + 1 - window_first;
        if (above < window_bounds) {
            uint32_t parts = bounds[above > 0 ? above : 0] + 1u;
            end = begin + (uint32_t)((size * parts + 255) >> 8);
        }
        if (least >= 0)
            begin +=
                (uint32_t)(size * bounds[least < window_bounds ? least : window_bounds - 1] >> 8);
    }

    // Read the offsets of a group's buckets and prefetch their signatures.
    void locate(Group& group) {
        uint64_t entries = 0;
        const uint32_t* offsets = offset_of(group.table, 0);
        const uint16_t* sigs = view.sigs + (size_t)group.table * view.count;
        int ones = __builtin_popcount(sig_of(group.query, group.table)), flips = group.flips;
        bool valid = true;
        for (uint32_t m = 0; m < group.count; m++) {
            if (group.first + m == view.flips.ends[flips]) flips++;
            const uint32_t* offset = offsets + (size_t)key_in(group, m) * view.words;
            uint32_t begin = offset[0], end = offset[view.words];
            valid &= begin <= end && end <= view.count;
            if (view.words > 1) narrow(offset, ones, limit(group.table, flips), begin, end);
            group.begin[m] = begin;
            group.end[m] = end;
            entries += end - begin;
            // the first and the last line unconditionally, since most buckets have one or two
            __builtin_prefetch(sigs + begin);
            __builtin_prefetch(sigs + end - (begin < end));
            if (end - begin > line_sigs && valid)
                for (uint32_t k = 1; k < 8 && begin + line_sigs * k < end; k++)
                    __builtin_prefetch(sigs + begin + line_sigs * k);
        }
        if (!valid) {  // only in a damaged file
            status = Status::corrupt;
            group.count = 0;
        }
        if (!measured)
            budgets[group.query] -= (int64_t)(group.count * probe_cost + entries * entry_cost);
    }

    // Stream the signatures of a group and collect candidates.
    void scan(const Group& group) {
        if (budgets[group.query] < 0) return;
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
                if (!found) continue;
                for (; found; found &= found - 1)
                    add({base + at + (uint32_t)__builtin_ctzll(found) / Near::bits, group.query,
                         (uint32_t)group.table});
                if (budgets[group.query] < 0) return;
            }
        }
    }

    // Add a candidate to a ring. The row number of a new one is prefetched, the row of the one
    // `lag` before it, and the one 2 * lag before it is compared, so that memory is never waited
    // for.
    void add(const Candidate& candidate) {
        __builtin_prefetch(view.refs + candidate.at);
        candidates[candidate_count % ring] = candidate;
        budgets[candidate.query] -= (int64_t)candidate_cost;
        if (candidate_count >= lag) fetch(candidate_count - lag);
        if (candidate_count >= 2 * lag) compare(candidate_count - 2 * lag);
        candidate_count++;
    }

    // Read a candidate's row number and prefetch the row.
    void fetch(size_t number) {
        Candidate& c = candidates[number % ring];
        uint32_t row = view.refs[c.at];
        if (row >= view.count) {
            status = Status::corrupt;  // only in a damaged file
            row = 0;
        }
        c.at = row;
        __builtin_prefetch(view.rows + (size_t)row * chunks * 2);
    }

    // Compare a candidate's row and report a match.
    void compare(size_t number) {
        const Candidate& c = candidates[number % ring];
        const uint8_t* row = view.rows + c.at * chunks * 2;
        uint32_t d = distance<chunks>(row, query(c.query));
        if (d > request.reach || first_table(row, query(c.query)) != (int)c.table) return;
        if (!report(view, request, c.query, (uint32_t)c.at, d)) status = Status::no_memory;
    }

    // The first table under which a row is a candidate.
    int first_table(const uint8_t* row, const uint8_t* q) const {
        for (int i = 0; i < view.tables; i++) {
            int next = i * view.stride + 1 < chunks ? i * view.stride + 1 : 0;
            int d = __builtin_popcount(key_of(row, i) ^ key_of(q, i));
            if (d <= thresholds[i] &&
                __builtin_popcount((uint32_t)(chunk(row, next) ^ chunk(q, next))) <= limit(i, d))
                return i;
        }
        return -1;
    }

    // Run the queries table by table, so that a table's offsets stay in the cache.
    void run(const uint32_t* picked, uint32_t count) {
        for (int table = 0; table < view.tables && status == Status::ok; table++)
            for (uint32_t k = 0; k < count; k++)
                if (budgets[picked[k]] >= 0) probe(picked[k], table);
        finish();
    }
};

}  // namespace
}  // namespace nciihash
