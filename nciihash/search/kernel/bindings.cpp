// The compiled part of nciihash.search.index: the bindings, and the selection of the loops in
// kernel.cpp by the processor's features.
//
// Hashes are scrambled first. The bits of a PDQ hash are frequencies in rows of sixteen, and
// adjacent bits are correlated; chunks of consecutive bits would fill some buckets to a hundred
// times the mean. Seen as 16 rows of `chunks` columns, bit (i, c) moves to bit i of the chunk j for
// which c = (step * i + j) mod chunks. Distances do not change.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernel.hpp"
#include "tables.hpp"

namespace nb = nanobind;
using namespace nciihash;

namespace {

template <typename T, int dims>
using Array = nb::ndarray<const T, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;
template <typename T, int dims>
using Numpy = nb::ndarray<nb::numpy, T, nb::ndim<dims>>;

// ---- selection of the loops ---------------------------------------------------------------------

#if !defined(NCIIHASH_HAS_avx2)
}  // namespace
const Kernel* nciihash::kernel_avx2() { return nullptr; }
const Kernel* nciihash::kernel_avx512() { return nullptr; }
namespace {
#endif
#if !defined(NCIIHASH_HAS_neon)
}  // namespace
const Kernel* nciihash::kernel_neon() { return nullptr; }
namespace {
#endif

bool is_supported(const Kernel* kernel) {
    if (!kernel) return false;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (kernel == kernel_avx512())
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bitalg") &&
               __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("bmi2");
    if (kernel == kernel_avx2())
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
               __builtin_cpu_supports("popcnt");
#endif
    return true;
}

const Kernel* chosen = nullptr;

std::vector<const Kernel*> available() {
    std::vector<const Kernel*> kernels;
    for (const Kernel* kernel : {kernel_avx512(), kernel_avx2(), kernel_neon(), kernel_portable()})
        if (is_supported(kernel)) kernels.push_back(kernel);
    return kernels;
}

nb::list backends() {
    nb::list names;
    for (const Kernel* kernel : available()) names.append(kernel->name);
    return names;
}

void choose(const std::string& name) {
    for (const Kernel* kernel : available())
        if (name == kernel->name) {
            chosen = kernel;
            return;
        }
    throw nb::value_error("no such backend on this machine");
}

// ---- arrays -------------------------------------------------------------------------------------

template <typename T, int dims>
Numpy<T, dims> owned(T* data, std::initializer_list<size_t> shape) {
    nb::capsule owner(data, [](void* p) noexcept { std::free(p); });
    return Numpy<T, dims>(data, shape, owner);
}

// ---- scrambling ---------------------------------------------------------------------------------

// The contribution of each value of each nibble of a hash to the scrambled hash.
struct Scramble {
    int chunks = 0;
    std::vector<uint64_t> table;  // chunks * 4 nibbles, 16 values, 4 words

    explicit Scramble(int n) : chunks(n), table((size_t)n * 4 * 16 * 4) {
        int step = n == 10 ? 3 : 5;  // coprime to n
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < n; j++) {
                int from = i * n + (step * i + j) % n;  // counted from the most significant bit
                int nibble = from / 4, bit = 3 - from % 4;
                for (int value = 0; value < 16; value++)
                    if (value >> bit & 1) {
                        uint64_t* words = &table[((size_t)nibble * 16 + value) * 4];
                        auto* out = reinterpret_cast<uint8_t*>(words);
                        out[2 * j + i / 8] |= (uint8_t)(1u << (i % 8));
                    }
            }
    }

    void run(const uint8_t* packed, uint8_t* out, size_t rows) const {
        chosen->scramble(chunks, table.data(), packed, out, rows);
    }
};

const Scramble& scramble_of(int chunks) {
    static const Scramble s4(4), s8(8), s9(9), s10(10), s16(16);
    switch (chunks) {
        case 4: return s4;
        case 8: return s8;
        case 9: return s9;
        case 10: return s10;
        case 16: return s16;
    }
    throw nb::value_error("unknown width");
}

Numpy<uint8_t, 2> scramble(Array<uint8_t, 2> packed) {
    size_t rows = packed.shape(0), bytes = packed.shape(1);
    const Scramble& table = scramble_of((int)bytes / 2);
    uint8_t* out = reserve<uint8_t>(rows * bytes);
    {
        nb::gil_scoped_release free;
        table.run(packed.data(), out, rows);
    }
    return owned<uint8_t, 2>(out, {rows, bytes});
}

// ---- building -----------------------------------------------------------------------------------

nb::tuple build(Array<uint8_t, 2> rows, int key_bits, int stride, bool windows, int threads) {
    size_t count = rows.shape(0);
    int chunks = (int)rows.shape(1) / 2, tables = chunks / stride;
    if (key_bits < 8 || key_bits > 16 || stride < 1 || stride > 2 || chunks % stride ||
        count >= UINT32_MAX / 2)
        throw nb::value_error("invalid table parameters");
    Source source{rows.data(), (uint32_t)count, chunks, stride, key_bits, windows ? 4 : 1};
    size_t words = (((size_t)1 << key_bits) + 1) * source.words;
    size_t sig_count = tables * count + sig_padding;
    Memory<uint32_t> offsets(reserve<uint32_t>(tables * words), std::free);
    Memory<uint32_t> refs(reserve<uint32_t>(tables * count), std::free);
    Memory<uint16_t> sigs(reserve<uint16_t>(sig_count), std::free);
    {
        nb::gil_scoped_release free;
        build_tables(source, threads > 0 ? threads : threads_allowed(), offsets.get(), refs.get(),
                     sigs.get());
    }
    return nb::make_tuple(owned<uint32_t, 2>(offsets.release(), {(size_t)tables, words}),
                          owned<uint32_t, 2>(refs.release(), {(size_t)tables, count}),
                          owned<uint16_t, 1>(sigs.release(), {sig_count}));
}

// ---- searching ----------------------------------------------------------------------------------

const Flips& flips_of(int key_bits) {
    struct All {
        std::vector<uint16_t> masks[17];
        Flips flips[17];
        All() {
            for (int bits = 8; bits <= 16; bits++) {
                for (int weight = 0; weight <= max_flips; weight++) {
                    for (uint32_t m = 0; m < 1u << bits; m++)
                        if (__builtin_popcount(m) == weight) masks[bits].push_back((uint16_t)m);
                    flips[bits].ends[weight] = (uint32_t)masks[bits].size();
                }
                flips[bits].masks = masks[bits].data();
            }
        }
    };
    static const All all;
    return all.flips[key_bits];
}

using Bytes1 = Array<uint8_t, 1>;

size_t plane_words(int chunks) { return (size_t)chunks * 16 * chosen->lanes / 64; }

// Return a bit-sliced copy of all full blocks of rows, which makes a flat scan three times as fast.
Numpy<uint64_t, 1> slice_rows(Array<uint8_t, 2> rows) {
    int chunks = (int)rows.shape(1) / 2;
    scramble_of(chunks);  // throws for unknown widths
    size_t blocks = rows.shape(0) / chosen->lanes, words = plane_words(chunks);
    uint64_t* planes = reserve<uint64_t>(blocks * words);
    for (size_t b = 0; b < blocks; b++)
        chosen->slice(chunks, rows.data() + b * chosen->lanes * chunks * 2, planes + b * words);
    return owned<uint64_t, 1>(planes, {blocks * words});
}

// A segment's arrays, kept alive. Their sizes are checked once, their contents as they are read.
struct Segment {
    Array<uint8_t, 2> rows;
    Array<uint64_t, 1> ids;
    std::optional<Bytes1> removed;
    std::optional<Array<uint64_t, 1>> planes;
    std::optional<Array<uint32_t, 2>> offsets, refs;
    std::optional<Array<uint16_t, 1>> sigs;
    View view{};
    int chunks;

    Segment(Array<uint8_t, 2> rows_, Array<uint64_t, 1> ids_, std::optional<Bytes1> removed_,
            std::optional<Array<uint64_t, 1>> planes_, std::optional<Array<uint32_t, 2>> offsets_,
            std::optional<Array<uint32_t, 2>> refs_, std::optional<Array<uint16_t, 1>> sigs_)
        : rows(rows_),
          ids(ids_),
          removed(removed_),
          planes(planes_),
          offsets(offsets_),
          refs(refs_),
          sigs(sigs_),
          chunks((int)rows_.shape(1) / 2) {
        scramble_of(chunks);  // throws for unknown widths
        size_t count = rows.shape(0);
        if (count >= UINT32_MAX / 2 || ids.shape(0) != count || rows.shape(1) % 2 ||
            (removed && removed->shape(0) < (count + 7) / 8))
            throw nb::value_error("the sizes of a segment's arrays are inconsistent");
        view.count = (uint32_t)count;
        view.rows = rows.data();
        view.ids = ids.data();
        view.removed = removed ? removed->data() : nullptr;
        if (planes) {
            uint32_t blocks = view.count / chosen->lanes;
            if (planes->shape(0) != blocks * plane_words(chunks))
                throw nb::value_error("the size of a segment's planes is inconsistent");
            view.planes = planes->data();
            view.plane_rows = blocks * chosen->lanes;
        }
        if (offsets) {
            size_t tables = offsets->shape(0), words = offsets->shape(1) % 4 ? 1 : 4;
            size_t keys = offsets->shape(1) / words - 1;
            int key_bits = 63 - __builtin_clzll(keys | 1);
            if (!tables || chunks % (int)tables || offsets->shape(1) % words ||
                keys != (size_t)1 << key_bits || key_bits < 8 || key_bits > 16 ||
                chunks / (int)tables > 2 || !refs || refs->shape(0) != tables ||
                refs->shape(1) != count || !sigs ||
                sigs->shape(0) != tables * count + sig_padding ||
                reinterpret_cast<uintptr_t>(sigs->data()) % 64)
                throw nb::value_error("the sizes of a segment's tables are inconsistent");
            view.offsets = offsets->data();
            view.refs = refs->data();
            view.sigs = sigs->data();
            view.tables = (int)tables;
            view.stride = chunks / (int)tables;
            view.key_bits = key_bits;
            view.words = (int)words;
            view.flips = flips_of(key_bits);
        }
    }
};

struct OwnedHits {
    Hits hits{};
    ~OwnedHits() { std::free(hits.data); }
    OwnedHits() = default;
    OwnedHits(const OwnedHits&) = delete;
};

// Answer a batch of queries from the segments of one index. The result is int64 offsets, then
// uint64 ids, then uint16 distances, sorted by query, then distance, then id. NumPy views them in
// one buffer, which is faster than creating three arrays here.
nb::bytearray query(nb::tuple segments, Array<uint8_t, 2> packed, int radius, int threads,
                    int strategy, int reach, uint32_t slack) {
    size_t count = packed.shape(0), bytes = packed.shape(1);
    int chunks = (int)bytes / 2;
    const Scramble& table = scramble_of(chunks);
    const Segment* fixed[16];
    std::vector<const Segment*> allocated;
    size_t total = 0, segment_count = nb::len(segments);
    const Segment** parts = fixed;
    if (segment_count > 16) {
        allocated.resize(segment_count);
        parts = allocated.data();
    }
    for (size_t i = 0; i < segment_count; i++) {
        parts[i] = nb::cast<const Segment*>(segments[i]);
        total += parts[i]->view.count;
        if (parts[i]->chunks != chunks)
            throw nb::value_error("queries and segments have different widths");
    }
    if (radius < 0 || count >= UINT32_MAX / 2)
        throw nb::value_error("invalid radius or too many queries");
    radius = std::min(radius, chunks * 16);
    reach = std::min(std::max(reach, radius), chunks * 16);
    slack = std::min(slack, 256u);  // 16 bits per table: all signatures

    // Starting a thread costs some 50 microseconds: each gets at least as much work.
    int workers = 1;
    if (count >= 32 && threads != 1) {
        size_t useful = count * (2000 + total / 64) / 200000 + 1;  // estimated in nanoseconds
        workers = threads > 0 ? threads : threads_allowed();
        workers = (int)std::min<size_t>({(size_t)workers, useful, count / 16});
    }
    std::unique_ptr<OwnedHits[]> found(new OwnedHits[workers]);
    std::atomic<int> status{(int)Status::ok};
    size_t matches = 0;
    auto search_part = [&](int worker) {
        size_t begin = count * worker / workers, end = count * (worker + 1) / workers;
        uint8_t single[max_chunks * 2];
        std::vector<uint8_t> batch;
        uint8_t* scrambled = single;
        if (end - begin > 1) {
            batch.resize((end - begin) * bytes);
            scrambled = batch.data();
        }
        table.run(packed.data() + begin * bytes, scrambled, end - begin);
        Hits& hits = found[worker].hits;
        Request request{scrambled,
                        (uint32_t)(end - begin),
                        (uint32_t)radius,
                        (uint32_t)reach,
                        slack,
                        (Strategy)strategy,
                        &hits};
        for (size_t i = 0; i < segment_count && begin < end; i++) {
            Status result = chosen->search(chunks, parts[i]->view, request);
            if (result != Status::ok) {
                status = (int)result;
                return;
            }
        }
        std::sort(hits.data, hits.data + hits.size, [](const Hit& a, const Hit& b) {
            if (a.query != b.query) return a.query < b.query;
            if (a.distance != b.distance) return a.distance < b.distance;
            return a.id < b.id;
        });
    };
    {
        nb::gil_scoped_release free;
        if (workers == 1)
            search_part(0);
        else
            spread(workers, workers, search_part);
    }
    if (status == (int)Status::no_memory) throw std::bad_alloc();
    if (status == (int)Status::corrupt)
        throw nb::value_error("the tables of a segment are damaged");
    for (int w = 0; w < workers; w++) matches += found[w].hits.size;
    PyObject* bytes_out =
        PyByteArray_FromStringAndSize(nullptr, (Py_ssize_t)(8 * (count + 1) + 10 * matches));
    if (!bytes_out) throw nb::python_error();
    // These bytes are not shared yet, and are aligned as by malloc.
    int64_t* starts = reinterpret_cast<int64_t*>(PyByteArray_AsString(bytes_out));
    uint64_t* ids = reinterpret_cast<uint64_t*>(starts + count + 1);
    uint16_t* distances = reinterpret_cast<uint16_t*>(ids + matches);
    size_t q = 0, m = 0;
    for (int w = 0; w < workers; w++) {
        size_t begin = count * w / workers;
        const Hits& hits = found[w].hits;
        for (size_t h = 0; h < hits.size; h++, m++) {
            for (; q <= begin + hits.data[h].query; q++) starts[q] = (int64_t)m;
            ids[m] = hits.data[h].id;
            distances[m] = (uint16_t)hits.data[h].distance;
        }
    }
    for (; q <= count; q++) starts[q] = (int64_t)m;
    return nb::steal<nb::bytearray>(bytes_out);
}

}  // namespace

NB_MODULE(_kernel, m) {
    chosen = available().front();
    m.attr("sig_padding") = sig_padding;
    m.def("backend", [] { return chosen->name; });
    m.def("backends", &backends);
    m.def("choose", &choose);
    m.def("scramble", &scramble);
    m.def("build", &build);
    m.def("query", &query, nb::arg("segments"), nb::arg("packed"), nb::arg("radius"),
          nb::arg("threads"), nb::arg("strategy") = 0, nb::arg("reach") = 0, nb::arg("slack") = 0);
    m.def("slice_rows", &slice_rows);
    nb::class_<Segment>(m, "Segment")
        .def(nb::init<Array<uint8_t, 2>, Array<uint64_t, 1>, std::optional<Bytes1>,
                      std::optional<Array<uint64_t, 1>>, std::optional<Array<uint32_t, 2>>,
                      std::optional<Array<uint32_t, 2>>, std::optional<Array<uint16_t, 1>>>(),
             nb::arg("rows"), nb::arg("ids"), nb::arg("removed").none(), nb::arg("planes").none(),
             nb::arg("offsets").none(), nb::arg("refs").none(), nb::arg("sigs").none());
}
