// The search loops. CMake compiles this file once for each instruction set, with NCIIHASH_ISA as
// its name; the bindings select one at run time. Everything here and in the headers included below,
// except kernel.hpp, is in an unnamed namespace. The linker sees only the function that returns the
// kernel, so that it can never use code for another instruction set instead.
//
// Two strategies find every row within a radius: flat_scan.hpp and multi_index.hpp. Each
// query uses the one with the lower expected cost.
#include "kernel.hpp"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bit-slicing needs a little-endian machine; NumPy searches instead"
#endif

#include <cstdlib>
#include <cstring>

#include "flat_scan.hpp"
#include "multi_index.hpp"

namespace nciihash {
namespace {

// Choose a strategy for each query. If a query costs more in the multi-index than its budget, it is
// abandoned, its hits are dropped, and the flat scan answers it.
template <int chunks>
Status search(const View& view, const Request& request) {
    uint32_t count = request.count;
    // the budgets, then the queries for the multi-index, then those for the flat scan
    size_t bytes_per_query = sizeof(int64_t) + 2 * sizeof(uint32_t);
    int64_t* budgets = (int64_t*)std::calloc((size_t)count + 1, bytes_per_query);
    if (!budgets) return Status::no_memory;
    uint32_t* indexed = (uint32_t*)(budgets + count);
    uint32_t* scanned = indexed + count;
    uint32_t indexed_count = 0, scanned_count = 0;
    Status status = Status::ok;

    if (view.offsets && request.strategy != Strategy::scan) {
        MultiIndex<chunks> index(view, request, budgets);
        int64_t flat = view.count * (int64_t)(count >= 12 ? sliced_cost : direct_cost);
        // beyond the radius, a flat scan counts more planes
        flat =
            flat * first_stop(chunks * 16, request.reach) / first_stop(chunks * 16, request.radius);
        if (request.strategy == Strategy::index) flat = INT64_MAX / 4;
        int64_t expected = INT64_MAX / 2, candidates = 0;
        if (index.applicable()) {
            candidates = index.expected_candidate_cost();
            expected = index.expected_probe_cost() + candidates;
        }
        index.measured = expected >= flat / 20;  // below, even a bad estimate costs little
        for (uint32_t q = 0; q < count; q++) {
            int64_t cost = expected;
            if (index.measured && expected < flat) cost = index.bucket_cost(q) + candidates;
            budgets[q] = flat / 10 + (index.measured ? 2 * candidates : 0);
            if (cost < flat)
                indexed[indexed_count++] = q;
            else
                scanned[scanned_count++] = q;
        }
        size_t before = request.hits->size;
        index.run(indexed, indexed_count);
        status = index.status;
        uint32_t first_abandoned = scanned_count;
        for (uint32_t k = 0; k < indexed_count; k++)
            if (budgets[indexed[k]] < 0) scanned[scanned_count++] = indexed[k];
        if (scanned_count > first_abandoned) {
            size_t kept = before;
            for (size_t h = before; h < request.hits->size; h++) {
                const Hit& hit = request.hits->data[h];
                if (budgets[hit.query] >= 0) request.hits->data[kept++] = hit;
            }
            request.hits->size = kept;
        }
    } else {
        for (uint32_t q = 0; q < count; q++) scanned[scanned_count++] = q;
    }
    if (status == Status::ok && scanned_count) {
        FlatScan<chunks> scan(view, request);
        if (!scan.run(scanned, scanned_count)) status = Status::no_memory;
    }
    std::free(budgets);
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
