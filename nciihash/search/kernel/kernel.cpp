// The search loops. CMake compiles this file once for each instruction set, with NCIIHASH_ISA as
// the name of the result; the bindings pick one at run time. Everything here and in the headers
// included below, except kernel.hpp, is in an unnamed namespace. Only the function that returns the
// kernel is visible to the linker, so it can never take code of another instruction set instead.
//
// There are two ways to find every row within a radius, both exact: flat_scan.hpp and
// multi_index.hpp. Each query is answered in the way that is expected to cost less.
#include "kernel.hpp"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bit-slicing takes the lowest byte of a word to be the first; NumPy searches here instead"
#endif

#include <cstdlib>
#include <cstring>

#include "flat_scan.hpp"
#include "multi_index.hpp"

namespace nciihash {
namespace {

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
