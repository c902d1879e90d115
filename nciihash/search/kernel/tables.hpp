// Building the tables of a segment, and sharing work among threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nciihash {

// Allocate memory, in huge pages if available: a search reads a thousand addresses at random.
template <typename T>
T* reserve(size_t count) {
    size_t bytes = count * sizeof(T), page = size_t{1} << 21;
    bytes = (bytes + 63) / 64 * 64;
    bool huge = bytes >= page;
    size_t size = huge ? (bytes + page - 1) / page * page : bytes < 64 ? 64 : bytes;
    void* data = std::aligned_alloc(huge ? page : 64, size);
    if (!data) throw std::bad_alloc();
#if defined(__linux__)
    if (huge) madvise(data, bytes, MADV_HUGEPAGE);
#endif
    return static_cast<T*>(data);
}

template <typename T>
using Memory = std::unique_ptr<T[], void (*)(void*)>;

// The number of CPUs available to this process.
int threads_allowed();

// Run `work(k)` for k in [0, count) on several threads; rethrow the first exception.
template <typename Work>
void spread(int count, int threads, Work work) {
    std::atomic<int> next{0};
    std::exception_ptr failure;
    std::mutex guard;
    auto loop = [&] {
        for (int k; (k = next++) < count;) {
            try {
                work(k);
            } catch (...) {
                std::lock_guard<std::mutex> lock(guard);
                if (!failure) failure = std::current_exception();
            }
        }
    };
    std::vector<std::thread> pool;
    for (int t = 1; t < threads && t < count; t++) {
        try {
            pool.emplace_back(loop);
        } catch (const std::system_error&) {
            break;  // the system allows no more threads: the running ones do the work
        }
    }
    loop();
    for (std::thread& thread : pool) thread.join();
    if (failure) std::rethrow_exception(failure);
}

// The rows to build tables of, and the parameters of the tables.
struct Source {
    const uint8_t* rows;  // count * chunks * 2 bytes, scrambled
    uint32_t count;
    int chunks, stride, key_bits, words;  // words: per offset, see View in kernel.hpp
};

// Fill `offsets`, `refs` and `sigs`, whose lengths are given in View in kernel.hpp.
void build_tables(const Source& source, int threads, uint32_t* offsets, uint32_t* refs,
                  uint16_t* sigs);

}  // namespace nciihash
