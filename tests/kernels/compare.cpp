// Holds the search loops of this build against a plain comparison of every row: for processors on
// which Python's tests do not run here. `make kernels` builds it for ARM and runs it in an emulator.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "../../nciihash/search/kernel/tables.hpp"
#include "../../nciihash/search/kernel/kernel.hpp"

using namespace nciihash;

namespace {

using Bytes = std::vector<uint8_t>;
using Found = std::vector<std::pair<uint64_t, uint32_t>>;  // id, distance

struct Bank {
    int chunks;
    uint32_t count;
    Bytes rows, dead;
    std::vector<uint64_t> ids;
};

std::mt19937_64 dice(1);

// Rows around a few centres, some far and some near, so that every radius finds something.
Bank make_bank(int chunks, uint32_t count) {
    Bank bank{chunks, count, Bytes((size_t)count * chunks * 2), Bytes((count + 7) / 8), {}};
    Bytes centres(5 * chunks * 2);
    for (uint8_t& byte : centres) byte = (uint8_t)dice();
    for (uint32_t i = 0; i < count; i++) {
        uint8_t* row = &bank.rows[(size_t)i * chunks * 2];
        std::memcpy(row, &centres[dice() % 5 * chunks * 2], chunks * 2);
        for (uint64_t flips = dice() % (chunks * 8); flips; flips--) {
            uint64_t bit = dice() % (chunks * 16);
            row[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        bank.ids.push_back((uint64_t)i * 3 + 1);
        if (dice() % 10 == 0) bank.dead[i / 8] |= (uint8_t)(0x80 >> i % 8);
    }
    return bank;
}

uint32_t apart(const uint8_t* a, const uint8_t* b, int bytes) {
    uint32_t bits = 0;
    for (int i = 0; i < bytes; i++) bits += (uint32_t)__builtin_popcount(a[i] ^ b[i]);
    return bits;
}

std::vector<Found> plainly(const Bank& bank, const Bytes& queries, uint32_t radius) {
    int bytes = bank.chunks * 2;
    std::vector<Found> found(queries.size() / bytes);
    for (size_t q = 0; q < found.size(); q++)
        for (uint32_t i = 0; i < bank.count; i++) {
            uint32_t d = apart(&queries[q * bytes], &bank.rows[(size_t)i * bytes], bytes);
            if (d <= radius && !(bank.dead[i / 8] << i % 8 & 0x80))
                found[q].emplace_back(bank.ids[i], d);
        }
    return found;
}

std::vector<Found> by_kernel(const Kernel& kernel, const Bank& bank, const View& view,
                             const Bytes& queries, uint32_t radius, Way way) {
    Hits hits{};
    uint32_t count = (uint32_t)(queries.size() / (bank.chunks * 2));
    Request request{queries.data(), count, radius, way, &hits};
    std::vector<Found> found(count);
    if (kernel.search(bank.chunks, view, request) == Status::ok)
        for (size_t h = 0; h < hits.size; h++)
            found[hits.data[h].query].emplace_back(hits.data[h].id, hits.data[h].distance);
    else
        found.clear();
    std::free(hits.data);
    for (Found& one : found) std::sort(one.begin(), one.end());
    return found;
}

// What the bindings do for a key's flips.
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
    const Kernel* kernels[] = {kernel_portable(),
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
                    Memory<uint16_t> sigs(
                        reserve<uint16_t>((size_t)tables * count + sig_padding), std::free);
                    build_tables({bank.rows.data(), count, chunks, stride, key_bits, words}, 1,
                                 offsets.get(), refs.get(), sigs.get());
                    uint32_t blocks = count / kernel->lanes;
                    size_t block = (size_t)chunks * 16 * kernel->lanes / 64;
                    std::vector<uint64_t> planes(blocks * block);
                    for (uint32_t b = 0; b < blocks; b++)
                        kernel->slice(chunks,
                                      &bank.rows[(size_t)b * kernel->lanes * chunks * 2],
                                      &planes[b * block]);
                    AllFlips flips(key_bits);
                    View tabled{count, bank.rows.data(), bank.ids.data(), bank.dead.data(),
                                nullptr, 0, offsets.get(), refs.get(), sigs.get(), tables,
                                stride, key_bits, words, flips.flips};
                    View sliced{count, bank.rows.data(), bank.ids.data(), bank.dead.data(),
                                planes.data(), blocks * kernel->lanes, nullptr, nullptr, nullptr,
                                0, 0, 0, 0, {}};
                    Bytes queries = make_bank(chunks, 14).rows;
                    if (count) queries.insert(queries.end(), bank.rows.begin(),
                                              bank.rows.begin() + chunks * 2);
                    for (uint32_t radius : {0, 1, 7, 15, 20, 31, 32, 47, 63, 100}) {
                        std::vector<Found> truth = plainly(bank, queries, radius);
                        for (const Found& one : truth) hits += one.size();
                        for (auto [view, way] : {std::pair{&tabled, Way::index},
                                                 {&tabled, Way::scan},
                                                 {&tabled, Way::best},
                                                 {&sliced, Way::best}}) {
                            compared++;
                            if (by_kernel(*kernel, bank, *view, queries, radius, way) == truth)
                                continue;
                            wrong++;
                            std::printf("%s: %d chunks, %u rows, form %d, radius %u, way %d\n",
                                        kernel->name, chunks, count, form, radius, (int)way);
                        }
                    }
                }
    std::printf("%zu answers, %zu hits in each way, %zu wrong\n", compared, hits, wrong);
    return wrong != 0;
}
