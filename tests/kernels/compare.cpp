// Compares the search loops of this build with brute force, for processors on which the Python
// tests do not run here. `make kernels` builds it for ARM and runs it in an emulator.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "../../nciihash/search/kernel/kernel.hpp"
#include "../../nciihash/search/kernel/tables.hpp"

using namespace nciihash;

namespace {

using Bytes = std::vector<uint8_t>;
using Matches = std::vector<std::pair<uint64_t, uint32_t>>;  // id, distance

struct Bank {
    int chunks;
    uint32_t count;
    Bytes rows, removed;
    std::vector<uint64_t> ids;
};

std::mt19937_64 random_bits(1);

// Rows around a few centres, some far and some close, so that every radius has matches.
Bank make_bank(int chunks, uint32_t count) {
    Bank bank{chunks, count, Bytes((size_t)count * chunks * 2), Bytes((count + 7) / 8), {}};
    Bytes centres(5 * chunks * 2);
    for (uint8_t& byte : centres) byte = (uint8_t)random_bits();
    for (uint32_t i = 0; i < count; i++) {
        uint8_t* row = &bank.rows[(size_t)i * chunks * 2];
        std::memcpy(row, &centres[random_bits() % 5 * chunks * 2], chunks * 2);
        for (uint64_t flips = random_bits() % (chunks * 8); flips; flips--) {
            uint64_t bit = random_bits() % (chunks * 16);
            row[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        bank.ids.push_back((uint64_t)i * 3 + 1);
        if (random_bits() % 10 == 0) bank.removed[i / 8] |= (uint8_t)(0x80 >> i % 8);
    }
    return bank;
}

uint32_t hamming_distance(const uint8_t* a, const uint8_t* b, int bytes) {
    uint32_t bits = 0;
    for (int i = 0; i < bytes; i++) bits += (uint32_t)__builtin_popcount(a[i] ^ b[i]);
    return bits;
}

std::vector<Matches> brute_force(const Bank& bank, const Bytes& queries, uint32_t radius) {
    int bytes = bank.chunks * 2;
    std::vector<Matches> found(queries.size() / bytes);
    for (size_t q = 0; q < found.size(); q++)
        for (uint32_t i = 0; i < bank.count; i++) {
            uint32_t d =
                hamming_distance(&queries[q * bytes], &bank.rows[(size_t)i * bytes], bytes);
            if (d <= radius && !(bank.removed[i / 8] << i % 8 & 0x80))
                found[q].emplace_back(bank.ids[i], d);
        }
    return found;
}

std::vector<Matches> search_kernel(const Kernel& kernel, const Bank& bank, const View& view,
                                   const Bytes& queries, uint32_t radius, Strategy strategy,
                                   uint32_t reach = 0, uint32_t slack = 0) {
    Hits hits{};
    uint32_t count = (uint32_t)(queries.size() / (bank.chunks * 2));
    Request request{queries.data(), count, radius, std::max(radius, reach), slack, strategy, &hits};
    std::vector<Matches> found(count);
    if (kernel.search(bank.chunks, view, request) == Status::ok)
        for (size_t h = 0; h < hits.size; h++)
            found[hits.data[h].query].emplace_back(hits.data[h].id, hits.data[h].distance);
    else
        found.clear();
    std::free(hits.data);
    for (Matches& one : found) std::sort(one.begin(), one.end());
    return found;
}

// Whether matches are exact within the radius, and a part of those within the reach, each once.
bool are_candidates(const std::vector<Matches>& found, const std::vector<Matches>& within_radius,
                    const std::vector<Matches>& within_reach, uint32_t radius) {
    if (found.size() != within_radius.size()) return false;
    for (size_t q = 0; q < found.size(); q++) {
        Matches near;
        for (const auto& match : found[q])
            if (match.second <= radius) near.push_back(match);
        if (near != within_radius[q] ||
            std::adjacent_find(found[q].begin(), found[q].end()) != found[q].end() ||
            !std::includes(within_reach[q].begin(), within_reach[q].end(), found[q].begin(),
                           found[q].end()))
            return false;
    }
    return true;
}

// The masks of a key's flips, as the bindings build them.
struct AllFlips {
    std::vector<uint16_t> masks;
    Flips flips{};
    explicit AllFlips(int key_bits) {
        for (int weight = 0; weight <= max_flips; weight++) {
            for (uint32_t m = 0; m < 1u << key_bits; m++)
                if (__builtin_popcount(m) == weight) masks.push_back((uint16_t)m);
            flips.ends[weight] = (uint32_t)masks.size();
        }
        flips.masks = masks.data();
    }
};

}  // namespace

int main() {
    const Kernel* kernels[] = {
        kernel_portable(),
#if defined(NCIIHASH_HAS_neon)
        kernel_neon(),
#endif
    };
    size_t compared = 0, hits = 0, wrong = 0;
    for (const Kernel* kernel : kernels)
        for (int chunks : {4, 8, 9, 10, 16})
            for (uint32_t count : {0u, 1u, 300u, 2000u})
                for (int form = 0; form < 4; form++) {
                    int stride = form & 1 ? 2 : 1, words = form & 2 ? 4 : 1, key_bits = 10;
                    if (chunks % stride) continue;
                    Bank bank = make_bank(chunks, count);
                    int tables = chunks / stride;
                    size_t words_all = tables * ((1u << key_bits) + 1) * words;
                    Memory<uint32_t> offsets(reserve<uint32_t>(words_all), std::free);
                    Memory<uint32_t> refs(reserve<uint32_t>((size_t)tables * count), std::free);
                    Memory<uint16_t> sigs(reserve<uint16_t>((size_t)tables * count + sig_padding),
                                          std::free);
                    build_tables({bank.rows.data(), count, chunks, stride, key_bits, words}, 1,
                                 offsets.get(), refs.get(), sigs.get());
                    uint32_t blocks = count / kernel->lanes;
                    size_t block = (size_t)chunks * 16 * kernel->lanes / 64;
                    std::vector<uint64_t> planes(blocks * block);
                    for (uint32_t b = 0; b < blocks; b++)
                        kernel->slice(chunks, &bank.rows[(size_t)b * kernel->lanes * chunks * 2],
                                      &planes[b * block]);
                    AllFlips flips(key_bits);
                    View tabled{
                        count,  bank.rows.data(), bank.ids.data(), bank.removed.data(), nullptr,
                        0,      offsets.get(),    refs.get(),      sigs.get(),          tables,
                        stride, key_bits,         words,           flips.flips};
                    View sliced{count,
                                bank.rows.data(),
                                bank.ids.data(),
                                bank.removed.data(),
                                planes.data(),
                                blocks * kernel->lanes,
                                nullptr,
                                nullptr,
                                nullptr,
                                0,
                                0,
                                0,
                                0,
                                {}};
                    Bytes queries = make_bank(chunks, 14).rows;
                    if (count)
                        queries.insert(queries.end(), bank.rows.begin(),
                                       bank.rows.begin() + chunks * 2);
                    for (uint32_t radius : {0, 1, 7, 15, 20, 31, 32, 47, 63, 100}) {
                        std::vector<Matches> expected = brute_force(bank, queries, radius);
                        for (const Matches& one : expected) hits += one.size();
                        std::vector<Matches> reached = brute_force(bank, queries, radius + 29);
                        for (auto [view, strategy] : {std::pair{&tabled, Strategy::index},
                                                      {&tabled, Strategy::scan},
                                                      {&tabled, Strategy::best},
                                                      {&sliced, Strategy::best}}) {
                            compared++;
                            if (search_kernel(*kernel, bank, *view, queries, radius, strategy) ==
                                    expected &&
                                are_candidates(search_kernel(*kernel, bank, *view, queries, radius,
                                                             strategy, radius + 29, 20),
                                               expected, reached, radius))
                                continue;
                            wrong++;
                            std::printf("%s: %d chunks, %u rows, form %d, radius %u, strategy %d\n",
                                        kernel->name, chunks, count, form, radius, (int)strategy);
                        }
                    }
                }
    std::printf("%zu comparisons, %zu hits in each strategy, %zu wrong\n", compared, hits, wrong);
    return wrong != 0;
}
